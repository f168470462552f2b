"""The API over HTTP with the SDKs of OpenAI, LangChain and LiteLLM, and fuzzed with its own OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

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
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
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
def scripted(tiny_oss: Path, codec: HarmonyCodec, request: pytest.FixtureRequest) -> Iterator[ServedApi]:
    """A server whose answers are the replies in the test's parameter, in turn."""
    script = [encode_spelled_out(tiny_oss, reply) for reply in request.param]
    served = ServedApi(ScriptedEngine(script, options=OPTIONS), codec)
    yield served
    served.stop()


@pytest.fixture(scope="module")
def real(tiny_oss: Path, codec: HarmonyCodec) -> Iterator[ServedApi]:
    """A server with the transformers engine."""
    served = ServedApi(create_engine(EngineConfig(kv_cache_tokens=8192), tiny_oss), codec)
    yield served
    served.stop()


@pytest.mark.parametrize("scripted", [[CALL, ANSWER, CALL, ANSWER]], indirect=True)
def test_openai_calls_a_tool_and_sends_its_result(scripted: ServedApi) -> None:
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none") as client:
        first = client.chat.completions.create(model="tiny", messages=QUESTION, tools=[TOOL])
        (call,) = first.choices[0].message.tool_calls or []
        assert first.choices[0].finish_reason == "tool_calls"
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "Oslo"}
        result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
        messages = [*QUESTION, first.choices[0].message.model_dump(exclude_none=True), result]
        second = client.chat.completions.create(model="tiny", messages=messages, tools=[TOOL])
        assert second.choices[0].message.content == "Sunny in Oslo."
        with client.chat.completions.stream(model="tiny", messages=QUESTION, tools=[TOOL]) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        (call,) = final.choices[0].message.tool_calls or []
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
        with client.chat.completions.stream(model="tiny", messages=QUESTION) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
        assert text == "Sunny in Oslo."


@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL, ANSWER]], indirect=True)
def test_openai_sends_the_own_answer_back_as_the_readme_does(scripted: ServedApi) -> None:
    """An answer of this server is history as it came, with the nulls that the SDK adds."""
    with openai.OpenAI(base_url=f"{scripted.root}/v1", api_key="none") as client:
        asked: list[Any] = [*QUESTION]
        reply = client.chat.completions.create(model="tiny", messages=asked)
        asked += [reply.choices[0].message]
        asked += QUESTION
        reply = client.chat.completions.create(model="tiny", messages=asked)
        assert reply.choices[0].message.content == "Sunny in Oslo."
        strict: Any = TOOL | {"function": TOOL["function"] | {"strict": True}}
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
            tools=[TOOL],
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


@tool
def weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny in {city}"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL]], indirect=True)
def test_langchain(scripted: ServedApi) -> None:
    model = ChatOpenAI(model="tiny", base_url=f"{scripted.root}/v1", api_key=pydantic.SecretStr("none"))
    assert model.invoke("Weather in Oslo?").content == "Sunny in Oslo."
    assert "".join(str(chunk.content) for chunk in model.stream("Weather in Oslo?")) == "Sunny in Oslo."
    (call,) = model.bind_tools([weather]).invoke("Weather in Oslo?").tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("scripted", [[ANSWER, ANSWER, CALL]], indirect=True)
def test_litellm(scripted: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    request: Any = {"model": "openai/tiny", "api_base": f"{scripted.root}/v1", "api_key": "none", "messages": QUESTION}
    assert litellm.completion(**request).choices[0].message.content == "Sunny in Oslo."
    pieces = [chunk.choices[0].delta.content or "" for chunk in litellm.completion(**request, stream=True)]
    assert "".join(pieces) == "Sunny in Oslo."
    (call,) = litellm.completion(**request, tools=[TOOL]).choices[0].message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Oslo"}


def adapt_body(case: Any) -> None:
    """Changes a generated body so that it names the served model and asks for at most 8 tokens."""
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "tiny"
        if "input" in case.body or "previous_response_id" in case.body:
            case.body["max_output_tokens"] = 8
            return
        for name in ("max_tokens", "max_completion_tokens"):
            if type(case.body.get(name)) is int and case.body[name] > 8:
                case.body[name] = 8
        if not {"max_tokens", "max_completion_tokens"} & case.body.keys() and "tokens" not in case.body:
            case.body["max_tokens"] = 8


@pytest.mark.filterwarnings("ignore")
def test_every_answer_to_fuzzed_requests_conforms_to_the_openapi_document(real: ServedApi) -> None:
    """No answer is a server error; status, content type and body are as documented; the engine stays healthy."""
    schema = schemathesis.openapi.from_url(f"{real.root}/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        schemathesis.checks.response_schema_conformance,
        schemathesis.checks.content_type_conformance,
        schemathesis.checks.status_code_conformance,
    ]
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 10
    statuses = set()
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
        def fuzz(case: Any) -> None:
            adapt_body(case)
            response = case.call(timeout=60)
            statuses.add(response.status_code)
            case.validate_response(response, checks=checks)

        fuzz()
    assert {200, 400} <= statuses
    health = httpx.get(f"{real.root}/healthz", timeout=10).json()
    assert (health["status"], health["requests"]) == ("ok", 0)
