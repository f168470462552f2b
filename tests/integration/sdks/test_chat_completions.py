"""Chat completions and completions over HTTP with the SDKs of OpenAI and LangChain."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

from tests.integration.sdks.weather import ANSWER, CALL, CHAT_TOOL, QUESTION, Verdict, weather
from tests.integration.served_api import ServedApi
from tests.serve_apps.engines.grammars.test_token_grammar import short_answer_biases
from tuneyard.harmony.codec import HarmonyCodec

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("scripted", [[CALL, ANSWER, CALL, ANSWER]], indirect=True)
def test_openai_calls_a_tool_and_sends_its_result(scripted: ServedApi) -> None:
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none") as client:
        first = client.chat.completions.create(model="tiny", messages=QUESTION, tools=[CHAT_TOOL])
        (call,) = first.choices[0].message.tool_calls or []
        assert first.choices[0].finish_reason == "tool_calls"
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        messages = [*QUESTION, first.choices[0].message.model_dump(exclude_none=True), result]
        second = client.chat.completions.create(model="tiny", messages=messages, tools=[CHAT_TOOL])
        assert second.choices[0].message.content == "Sunny in Oslo."
        with client.chat.completions.stream(model="tiny", messages=QUESTION, tools=[CHAT_TOOL]) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls or []
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
        with client.chat.completions.stream(model="tiny", messages=QUESTION) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert text == "Sunny in Oslo."


@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL, ANSWER]], indirect=True)
def test_openai_sends_the_own_answer_back_as_the_guide_does(scripted: ServedApi) -> None:
    """An answer of this server is history as it came, with the nulls that the SDK adds."""
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none") as client:
        asked: list[Any] = [*QUESTION]
        reply = client.chat.completions.create(model="tiny", messages=asked)
        asked += [reply.choices[0].message]
        asked += QUESTION
        reply = client.chat.completions.create(model="tiny", messages=asked)
        assert reply.choices[0].message.content == "Sunny in Oslo."
        strict: Any = CHAT_TOOL | {"function": CHAT_TOOL["function"] | {"strict": True}}
        tools: Any = [strict, openai.pydantic_function_tool(Verdict)]
        parsed = client.chat.completions.parse(model="tiny", messages=asked, tools=tools)
        (call,) = parsed.choices[0].message.tool_calls or []
        asked += [parsed.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
        reply = client.chat.completions.create(model="tiny", messages=asked, tools=tools)
        assert reply.choices[0].message.content == "Sunny in Oslo."


def test_openai_parses_answers_that_a_schema_constrains(real: ServedApi, codec: HarmonyCodec) -> None:
    bias: Any = {str(token): value for token, value in short_answer_biases(codec, "analysis", "commentary")}
    with openai.OpenAI(base_url=f"{real.root}/v1", api_key="none") as client:
        for seed in range(5):
            completion = client.chat.completions.parse(
                model="tiny",
                messages=QUESTION,
                response_format=Verdict,
                max_tokens=400,
                temperature=1,
                seed=seed,
                logit_bias=bias,
            )
            assert isinstance(completion.choices[0].message.parsed, Verdict)
        required = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            tools=[CHAT_TOOL],
            tool_choice="required",
            max_tokens=600,
            temperature=1,
            seed=1,
            logit_bias={str(token): value for token, value in short_answer_biases(codec, "analysis")},
        )
        (call,) = required.choices[0].message.tool_calls or []
        assert isinstance(json.loads(call.function.arguments)["city"], str)
        with pytest.raises(openai.BadRequestError, match="cannot be enforced") as refused:
            client.chat.completions.create(
                model="tiny",
                messages=QUESTION,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "integre"}}},
            )
        assert refused.value.param == "response_format"


def test_openai_completes_text_and_lists_models(real: ServedApi) -> None:
    with openai.OpenAI(base_url=f"{real.root}/v1", api_key="none") as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").id == "tiny"
        request: Any = {"model": "tiny", "prompt": "Hello", "max_tokens": 8, "temperature": 0}
        whole = client.completions.create(**request)
        pieces = [chunk.choices[0].text for chunk in client.completions.create(**request, stream=True)]
        assert "".join(pieces) == whole.choices[0].text


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL]], indirect=True)
def test_langchain(scripted: ServedApi) -> None:
    model = ChatOpenAI(model="tiny", base_url=f"{scripted.root}/v1", api_key=pydantic.SecretStr("none"))
    assert model.invoke("Weather in Oslo?").content == "Sunny in Oslo."
    assert "".join(str(chunk.content) for chunk in model.stream("Weather in Oslo?")) == "Sunny in Oslo."
    (call,) = model.bind_tools([weather]).invoke("Weather in Oslo?").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
