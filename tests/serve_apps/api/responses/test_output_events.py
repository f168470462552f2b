"""The event state machine: replaying events gives exactly the output items, also with OpenAI's SDK."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from serve_apps.answers.chat_answer import ChatPiece
from serve_apps.api.responses.output_events import OutputEvents
from tests.serve_apps.api.responses.event_replay import replay
from tuneyard.api.wire.chat_answer import ContentLogprob
from tuneyard.api.wire.responses.answer import Response
from tuneyard.api.wire.responses.events import LifecycleEvent, ResponseEvent

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TEXTS = st.text(max_size=5)


def logprob(text: str) -> ContentLogprob:
    return ContentLogprob(token=text, bytes=list(text.encode()), logprob=-1.0)


@st.composite
def pieces(draw: st.DrawFn) -> list[ChatPiece]:
    """Pieces in any order that ChatAnswer may give: arguments follow the beginning of a call."""
    made: list[ChatPiece] = []
    in_call = False
    for number in range(draw(st.integers(0, 12))):
        kind = draw(st.sampled_from(["reasoning", "content", "call", *(["arguments"] * in_call)]))
        text = draw(TEXTS)
        in_call = kind in ("call", "arguments")
        match kind:
            case "reasoning":
                made.append(ChatPiece(0, "reasoning", text))
            case "content":
                made.append(ChatPiece(0, "content", text, [logprob(text)] * draw(st.integers(0, 2))))
            case "call":
                made.append(ChatPiece(0, "call", f"f{number}", call_id=f"c{number}"))
            case _:
                made.append(ChatPiece(0, "arguments", text))
        if kind in ("reasoning", "content") and not text and not made[-1].logprobs:
            in_call = made.pop() is None
    return made


def events_of(made: list[ChatPiece], *, has_summary: bool) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The events of a whole response, as JSON, and the final response."""
    output = OutputEvents(has_summary=has_summary)
    response = Response(id="resp_1", created_at=0, model="m")
    events: list[ResponseEvent] = [LifecycleEvent(type="response.created", response=response.model_copy())]
    for piece in made:
        events += [event.model_copy(deep=True) for event in output.add(piece)]
    events += output.close("completed")
    response.output, response.status = output.items, "completed"
    events.append(LifecycleEvent(type="response.completed", response=response))
    numbers = itertools.count()
    for event in events:
        event.sequence_number = next(numbers)
    return [event.model_dump() for event in events], response.model_dump()


@settings(max_examples=300, deadline=None)
@given(pieces(), st.booleans())
def test_replaying_the_events_gives_the_items(made: list[ChatPiece], has_summary: bool) -> None:
    events, response = events_of(made, has_summary=has_summary)
    assert replay(events) == response["output"]
    for event in events:
        EVENT.validate_python(event)
    assert [item["status"] for item in response["output"]] == ["completed"] * len(response["output"])


@settings(max_examples=100, deadline=None)
@given(pieces(), st.booleans())
def test_the_sdk_accumulates_the_same_response(made: list[ChatPiece], has_summary: bool) -> None:
    events, response = events_of(made, has_summary=has_summary)
    state: ResponseStreamState[Any] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    final = state._completed_response
    assert final is not None
    assert "".join(final.output_text) == "".join(
        part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]
    )
    for known, item in zip(state._output_items.values(), response["output"], strict=True):
        if known.type == "message":
            assert [part.text for part in known.content] == [part["text"] for part in item["content"]]  # type: ignore[union-attr]
        if known.type == "function_call":
            assert known.arguments == item["arguments"]
