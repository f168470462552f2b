"""/v1/responses over HTTP with the SDKs of OpenAI, LangChain and LiteLLM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.engines.engine import OPTIONS
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tests.serve_apps.engines.grammars.test_token_grammar import short_answer_biases
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

pytestmark = pytest.mark.integration
THOUGHT = "<|channel|>analysis<|message|>Think.<|end|><|start|>assistant"
CALL = f'{THOUGHT}<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{{"city": "Oslo"}}<|call|>'
ANSWER = f"{THOUGHT}<|channel|>final<|message|>Sunny in Oslo.<|return|>"
JSON = f'{THOUGHT}<|channel|>final<|message|>{{"sunny": true, "wind": 3}}<|return|>'
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "description": "Weather of a city.",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
QUESTION: Any = [{"role": "user", "content": "Weather in Oslo?"}]


class Verdict(pydantic.BaseModel):
    """The schema of a structured answer."""

    sunny: bool
    wind: int = pydantic.Field(ge=0, le=9)


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


@pytest.fixture
def scripted(
    tiny_oss: Path, codec: HarmonyCodec, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[ServedApi]:
    """A server that stores responses, whose answers are the replies in the test's parameter, in turn."""
    script = [encode_spelled_out(tiny_oss, reply) for reply in request.param]
    store = ResponseStore(tmp_path / "responses.db", max_age_s=3600, max_bytes_per_owner=2**20)
    served = ServedApi(ScriptedEngine(script, options=OPTIONS), codec, stored_responses=StoredResponses(store))
    yield served
    served.stop()
    store.close()


@pytest.fixture
def client(scripted: ServedApi) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none", max_retries=0) as client:
        yield client


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


@pytest.mark.parametrize("scripted", [[JSON]], indirect=True)
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
    first = client.responses.create(model="tiny", input=history, tools=[TOOL], store=False)
    (call,) = (item for item in first.output if item.type == "function_call")
    assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Oslo"})
    history += first.output
    history.append({"type": "function_call_output", "call_id": call.call_id, "output": "sunny"})
    second = client.responses.create(model="tiny", input=history, tools=[TOOL], store=False)
    assert second.output_text == "Sunny in Oslo."
    history += [item.model_dump() for item in second.output]
    history.append({"role": "user", "content": "And in Rome?"})
    client.responses.create(model="tiny", input=history, tools=[TOOL], store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


@pytest.mark.parametrize("scripted", [[CALL, ANSWER]], indirect=True)
def test_stored_responses(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="Weather in Oslo?", tools=[TOOL])
    (call,) = (item for item in first.output if item.type == "function_call")
    second = client.responses.create(
        model="tiny",
        previous_response_id=first.id,
        tools=[TOOL],
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


def test_answers_that_a_schema_constrains(tiny_oss: Path, codec: HarmonyCodec) -> None:
    """With a real engine: each answer parses, and a required call has valid arguments."""
    served = ServedApi(create_engine(EngineConfig(kv_cache_tokens=8192), tiny_oss), codec)
    answer = {str(token): value for token, value in short_answer_biases(codec, "analysis", "commentary")}
    call_bias = {str(token): value for token, value in short_answer_biases(codec, "analysis")}
    try:
        with openai.OpenAI(base_url=f"{served.root}/v1", api_key="none", max_retries=0) as client:
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
                tools=[TOOL],
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
    finally:
        served.stop()


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


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


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL]], indirect=True)
def test_litellm(scripted: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    request: Any = {"model": "openai/tiny", "api_base": f"{scripted.root}/v1", "api_key": "none", "input": QUESTION}
    whole: Any = litellm.responses(**request)
    assert whole.output[-1].content[0].text == "Sunny in Oslo."
    streamed: Any = litellm.responses(**request, stream=True)
    deltas = [event.delta for event in streamed if event.type == "response.output_text.delta"]
    assert "".join(deltas) == "Sunny in Oslo."
    called: Any = litellm.responses(**request, tools=[TOOL])
    assert json.loads(called.output[-1].arguments) == {"city": "Oslo"}
