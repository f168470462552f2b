"""/v1/responses over HTTP with the SDKs of OpenAI and LangChain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from langchain_openai import ChatOpenAI

from tests.integration.sdks.scripted_server import serve_script
from tests.integration.sdks.weather import ANSWER, CALL, QUESTION, RESPONSES_TOOL, VERDICT, Verdict, weather
from tests.integration.served_api import ServedApi
from tests.serve_apps.engines.grammars.test_token_grammar import short_answer_biases
from tuneyard.harmony.codec import HarmonyCodec

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("scripted", [[ANSWER]], indirect=True)
def test_create_whole_and_streamed(client: openai.OpenAI) -> None:
    response = client.responses.create(model="tiny", input="Weather in Oslo?", instructions="Be brief.")
    assert response.output_text == "Sunny in Oslo."
    openai.types.responses.Response.model_validate(response.model_dump(), strict=True)
    events = list(client.responses.create(model="tiny", input=QUESTION, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "Sunny in Oslo."
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Sunny in Oslo."
    with client.responses.stream(model="tiny", input=QUESTION, reasoning={"summary": "auto"}) as stream:
        thought = "".join(event.delta for event in stream if event.type == "response.reasoning_summary_text.delta")
        final = stream.get_final_response()
    assert (thought, final.output_text) == ("Think.", "Sunny in Oslo.")


@pytest.mark.parametrize("scripted", [[VERDICT]], indirect=True)
def test_parse(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model="tiny", input=QUESTION, text_format=Verdict)
    assert parsed.output_parsed == Verdict(sunny=True, wind=3)
    with client.responses.stream(model="tiny", input=QUESTION, text_format=Verdict) as stream:
        for _ in stream:
            pass
        assert stream.get_final_response().output_parsed == Verdict(sunny=True, wind=3)


@pytest.mark.parametrize("scripted", [[CALL, ANSWER]], indirect=True)
def test_a_tool_loop_sends_the_output_back_as_it_came(client: openai.OpenAI) -> None:
    history: Any = list(QUESTION)
    first = client.responses.create(model="tiny", input=history, tools=[RESPONSES_TOOL], store=False)
    (call,) = (item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
    history += first.output
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = client.responses.create(model="tiny", input=history, tools=[RESPONSES_TOOL], store=False)
    assert second.output_text == "Sunny in Oslo."
    history += [item.model_dump() for item in second.output]
    history.append({"role": "user", "content": "And in Rome?"})
    client.responses.create(model="tiny", input=history, tools=[RESPONSES_TOOL], store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


@pytest.mark.parametrize("scripted", [[CALL, ANSWER]], indirect=True)
def test_stored_responses(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="Weather in Oslo?", tools=[RESPONSES_TOOL])
    (call,) = (item for item in first.output if item.type == "function_call")
    second = client.responses.create(
        model="tiny",
        previous_response_id=first.id,
        tools=[RESPONSES_TOOL],
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    )
    assert (second.output_text, second.previous_response_id) == ("Sunny in Oslo.", first.id)
    assert client.responses.retrieve(second.id) == second
    items = list(client.responses.input_items.list(second.id, limit=2, order="asc"))
    assert [item.type for item in items] == ["message", "reasoning", "function_call", "function_call_output"]
    assert client.responses.cancel(second.id).status == "completed"
    client.responses.delete(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


@pytest.mark.parametrize("scripted", [[CALL, ANSWER]], indirect=True)
def test_input_items_by_page(client: openai.OpenAI) -> None:
    question: Any = [{"role": "user", "content": text} for text in ("one", "two", "three")]
    response = client.responses.create(model="tiny", input=question)
    newest = client.responses.input_items.list(response.id, limit=1)
    assert (len(newest.data), newest.has_more, newest.has_next_page()) == (1, True, True)
    everything: list[Any] = [*newest.data, *newest.get_next_page()]
    assert [item.content[0].text for item in everything] == ["three", "two", "one"]
    oldest: Any = client.responses.input_items.list(response.id, order="asc", after=everything[-1].id).data
    assert [item.content[0].text for item in oldest] == ["two", "three"]


@pytest.mark.parametrize("scripted", [[ANSWER]], indirect=True)
async def test_async_and_raw_clients(scripted: ServedApi) -> None:
    async with openai.AsyncOpenAI(base_url=f"{scripted.root}/v1", api_key="none", max_retries=0) as client:
        raw = await client.responses.with_raw_response.create(model="tiny", input="Weather in Oslo?")
        response = raw.parse()
        assert (response.output_text, len(raw.headers["x-request-id"]) > 0) == ("Sunny in Oslo.", True)
        async with client.responses.stream(model="tiny", input="Weather in Oslo?") as stream:
            deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
            assert "".join(deltas) == (await stream.get_final_response()).output_text == "Sunny in Oslo."
        assert await client.responses.retrieve(response.id, include=["reasoning.encrypted_content"]) == response
        assert [item async for item in client.responses.input_items.list(response.id)]
        assert (await client.responses.cancel(response.id)).status == "completed"
        await client.responses.delete(response.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.input_items.list(response.id)


async def test_cancel_ends_a_response_that_is_being_answered(codec: HarmonyCodec, tmp_path: Path) -> None:
    with serve_script(codec, [ANSWER], tmp_path, token_interval_s=0.5) as served:
        async with openai.AsyncOpenAI(base_url=f"{served.root}/v1", api_key="none", max_retries=0) as client:
            stream = await client.responses.create(model="tiny", input="Weather in Oslo?", stream=True)
            first = await anext(stream)
            assert first.type == "response.created"
            await client.responses.cancel(first.response.id)
            *_, last = [event async for event in stream]
            assert (last.type, last.response.status) == ("response.incomplete", "cancelled")
            assert (await client.responses.retrieve(first.response.id)).status == "cancelled"


REFUSED: dict[str, dict[str, Any]] = {
    "background": {"background": True},
    "conversation": {"conversation": "conv_1"},
    "truncation": {"truncation": "auto"},
    "prompt": {"prompt": {"id": "pmpt_1"}},
    "tools": {"tools": [{"type": "web_search"}]},
    "previous_response_id": {"previous_response_id": "resp_1"},
}


@pytest.mark.parametrize("scripted", [[ANSWER]], indirect=True)
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(client: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        client.responses.create(model="tiny", input="Hello", **REFUSED[name])
    assert refused.value.status_code in (400, 404)
    assert str(refused.value.param).startswith(name)


def test_answers_that_a_schema_constrains(real: ServedApi, codec: HarmonyCodec) -> None:
    """With a real engine: each answer parses, and a required call has valid arguments."""
    answer = {str(token): value for token, value in short_answer_biases(codec, "analysis", "commentary")}
    call_bias = {str(token): value for token, value in short_answer_biases(codec, "analysis")}
    with openai.OpenAI(base_url=f"{real.root}/v1", api_key="none", max_retries=0) as client:
        for seed in range(3):
            parsed = client.responses.parse(
                model="tiny",
                input=QUESTION,
                text_format=Verdict,
                max_output_tokens=400,
                temperature=1,
                extra_body={"seed": seed, "logit_bias": answer},
            )
            assert isinstance(parsed.output_parsed, Verdict)
        required = client.responses.create(
            model="tiny",
            input=QUESTION,
            tools=[RESPONSES_TOOL],
            tool_choice="required",
            max_output_tokens=600,
            temperature=1,
            extra_body={"seed": 1, "logit_bias": call_bias},
        )
        (call,) = (item for item in required.output if item.type == "function_call")
        assert isinstance(json.loads(call.arguments)["city"], str)
        with pytest.raises(openai.BadRequestError, match="cannot be enforced") as refused:
            wrong: Any = {"format": {"type": "json_schema", "name": "x", "schema": {"type": "integre"}}}
            client.responses.create(model="tiny", input=QUESTION, text=wrong)
        assert str(refused.value.param).startswith("text.format")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL, ANSWER]], indirect=True)
def test_langchain(scripted: ServedApi) -> None:
    model = ChatOpenAI(
        model="tiny", base_url=f"{scripted.root}/v1", api_key=pydantic.SecretStr("none"), use_responses_api=True
    )
    assert model.invoke("Weather in Oslo?").text == "Sunny in Oslo."
    assert "".join(str(chunk.text) for chunk in model.stream("Weather in Oslo?")) == "Sunny in Oslo."
    bound = model.bind_tools([weather], strict=True)
    history: Any = [("user", "Weather in Oslo?")]
    reply = bound.invoke(history)
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    assert bound.invoke([*history, reply, weather.invoke(call)]).text == "Sunny in Oslo."
