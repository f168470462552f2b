from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_errors import ChatError
from ui.endpoints.chat_events import (
    AnswerDelta,
    AnswerDone,
    AnsweredBy,
    ChatEvent,
    Lineage,
    ReasoningDelta,
    ToolCallDelta,
)
from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.served_models import ServedModel
from ui.server.listening import open_socket


def chat_request(base_url: str, question: str, max_tokens: int | None = None) -> ChatRequest:
    messages = [{"role": "user", "content": question}]
    return ChatRequest(ServedModel("smol-oss-135m", base_url), messages, max_tokens=max_tokens)


async def collect_events(client: ChatClient, request: ChatRequest) -> list[ChatEvent]:
    return [event async for event in client.stream(request)]


def joined_text(events: Sequence[ChatEvent], kind: type[ReasoningDelta] | type[AnswerDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


@pytest.fixture
def dead_url() -> str:
    """A base URL on a port where no process listens."""
    with open_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}/v1"


async def test_lists_the_models_of_every_endpoint(endpoint: ScriptedEndpoint, dead_url: str) -> None:
    other = ScriptedEndpoint(models=["gpt-oss-20b", "smol-oss-135m"])
    with serve_in_thread(other.build_app()) as root_url:
        client = ChatClient([endpoint.base_url, dead_url, f"{root_url}/v1/"])
        listing = await client.models()
        await client.aclose()
    assert listing.models == (
        ServedModel("smol-oss-135m", endpoint.base_url),
        ServedModel("gpt-oss-20b", f"{root_url}/v1"),
        ServedModel("smol-oss-135m", f"{root_url}/v1"),
    )
    assert len(listing.problems) == 1
    assert listing.problems[0].startswith(f"Nothing answers at {dead_url}: is the model deployed? Start it with `make")


@pytest.mark.parametrize("path", ["/page", "", "/v2"])
async def test_an_address_without_a_model_list_is_explained(endpoint: ScriptedEndpoint, path: str) -> None:
    client = ChatClient([endpoint.base_url.removesuffix("/v1") + path])
    listing = await client.models()
    await client.aclose()
    assert listing.models == ()
    assert "usually ends in /v1" in listing.problems[0]


async def test_reasoning_and_answer_are_separate_events(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    events = await collect_events(client, chat_request(endpoint.base_url, "Give me an overview"))
    assert joined_text(events, ReasoningDelta).startswith("The user wants an overview.")
    assert joined_text(events, AnswerDelta).startswith("Three things matter:")
    done = events[-1]
    assert isinstance(done, AnswerDone)
    assert (done.finish_reason, done.prompt_tokens, done.completion_tokens) == ("stop", 12, 40)
    assert done.first_token_s is not None
    assert 0 < done.first_token_s <= done.total_s


async def test_settings_are_sent_under_openais_names(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    await collect_events(client, chat_request(endpoint.base_url, "hello", max_tokens=7))
    await collect_events(client, chat_request(endpoint.base_url, "hello"))
    limited, unlimited = endpoint.requests
    assert limited["max_completion_tokens"] == 7
    assert "max_completion_tokens" not in unlimited
    assert (limited["temperature"], limited["top_p"]) == (1.0, 1.0)
    assert "reasoning_effort" not in limited
    assert limited["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("refuse", ["refused the request", "9000 tokens do not fit", "HTTP 400"]),
        ("missing", ["refresh the model list", "'nobody' does not exist", "HTTP 404"]),
        ("busy", ["wait a moment", "16 requests are waiting", "HTTP 429"]),
        ("loading", ["not ready", "still loading", "HTTP 503"]),
    ],
)
async def test_an_error_contains_the_servers_message(
    client: ChatClient, endpoint: ScriptedEndpoint, script: str, words: list[str]
) -> None:
    with pytest.raises(ChatError) as caught:
        await collect_events(client, chat_request(endpoint.base_url, script))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert len(endpoint.requests) == 1, "the refused request was sent again"


async def test_the_error_for_a_stopped_endpoint_says_how_to_start_it(dead_url: str) -> None:
    client = ChatClient([dead_url])
    with pytest.raises(ChatError, match="is the model deployed"):
        await collect_events(client, chat_request(dead_url, "hello"))
    await client.aclose()


async def test_only_the_given_endpoints_are_called(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    elsewhere = endpoint.base_url.replace("127.0.0.1", "localhost")
    with pytest.raises(ChatError, match="not started with that --base-url"):
        await collect_events(client, chat_request(elsewhere, "hello"))
    assert endpoint.requests == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("crash", "broke in the middle of the answer. The text so far is kept"),
        ("unfinished", "broke in the middle of the answer. The text so far is kept"),
        ("fail", "The engine ran out of memory. The text so far is kept"),
    ],
)
async def test_a_broken_stream_gives_the_events_before_the_error(
    client: ChatClient, endpoint: ScriptedEndpoint, script: str, message: str
) -> None:
    events: list[ChatEvent] = []

    async def read() -> None:
        async for event in client.stream(chat_request(endpoint.base_url, script)):
            events.append(event)  # no comprehension: the list must hold the events before the error

    with pytest.raises(ChatError, match=message):
        await read()
    assert joined_text(events, AnswerDelta) == f"You said: {script}"


async def test_closing_the_iterator_closes_the_connection(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    async with aclosing(client.stream(chat_request(endpoint.base_url, "go on forever"))) as events:
        await anext(events)
        assert not endpoint.closed_early.is_set()
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


async def test_cancelling_the_reader_closes_the_connection(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    reader = asyncio.create_task(collect_events(client, chat_request(endpoint.base_url, "go on forever")))
    await asyncio.sleep(0.3)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await asyncio.to_thread(endpoint.closed_early.wait, 5)


def test_tokens_per_second_excludes_the_time_to_the_first_token() -> None:
    assert AnswerDone("stop", 5, 11, first_token_s=4.0, total_s=5.0).tokens_per_s == pytest.approx(10.0)
    assert AnswerDone("stop", 5, 1, first_token_s=4.0, total_s=4.0).tokens_per_s is None
    assert AnswerDone("stop", None, None, first_token_s=4.0, total_s=5.0).tokens_per_s is None


async def test_the_first_event_says_what_answers(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    endpoint.lineage = {"X-Tuneyard-Model-Version": "brindle/3", "X-Tuneyard-Run": "r1"}
    events = await collect_events(client, chat_request(endpoint.base_url, "hello"))
    assert events[0] == AnsweredBy(Lineage(version="brindle/3", run="r1"))


async def test_reasoning_is_read_from_either_field(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    events = await collect_events(client, chat_request(endpoint.base_url, "as of vllm"))
    assert joined_text(events, ReasoningDelta) == "Thought in the other field."


async def test_a_tool_call_comes_with_its_name_and_arguments(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    events = await collect_events(client, chat_request(endpoint.base_url, "weather"))
    calls = [event for event in events if isinstance(event, ToolCallDelta)]
    assert (calls[0].call_id, calls[0].name) == ("call_1", "get_weather")
    assert "".join(call.arguments for call in calls) == '{"city": "Paris", "unit": "celsius"}'


async def test_a_persons_key_is_sent_in_place_of_the_shared_one(endpoint: ScriptedEndpoint) -> None:
    client = ChatClient([endpoint.base_url], "ty-shared")
    await client.models("ty-anna")
    [_ async for _ in client.stream(chat_request(endpoint.base_url, "hello"), "ty-ben")]
    await client.models()
    await client.aclose()
    assert endpoint.used_keys == ["ty-anna", "ty-ben", "ty-shared"]
