"""Reads the engine's streams for the choices of one answer, and closes them however the reading ends."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, TypeVar

from serve_apps.answers.async_streams import merge_streams
from serve_apps.engine_wrappers.token_charge import current_charge
from serve_apps.engines.engine import GenerationRequest, InferenceEngine, TokenChunk
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.wire.usage import FinishReason
from tuneyard.core.errors import EngineError

Piece = TypeVar("Piece")
PieceOut = TypeVar("PieceOut", covariant=True)


class RunningAnswer(Protocol[PieceOut]):
    """One choice that is being answered: ChatAnswer, TextAnswer."""

    finish_reason: FinishReason | None

    @property
    def reasoning_tokens(self) -> int:
        """Tokens of the reasoning so far; the engine's tokens are charged without this distinction."""
        ...

    @property
    def has_ended(self) -> bool:
        """True once `finish_reason` is set; the engine may not have noticed, if a stop string ended the answer."""
        ...

    def advance(self, chunk: TokenChunk) -> Sequence[PieceOut]:
        """Returns what the chunk adds for the client, in order. Raises EngineError if the engine aborted."""
        ...


def stream_pieces(
    engine: InferenceEngine, requests: Sequence[GenerationRequest], answers: Sequence[RunningAnswer[Piece]]
) -> AsyncGenerator[Piece | None, None]:
    """The pieces of all answers, each as soon as the engine makes it; None for a chunk without visible text.

    The first item comes as soon as the engine has accepted all requests: what it refuses is raised before that.
    `requests` and `answers` belong together by position. When the stream ends, every answer has a finish reason.
    Closing the stream, as happens when the client disconnects, aborts the requests in the engine. Raises EngineError
    if an answer is incomplete, and whatever the engine raises.
    """
    streams = [_stream_one(engine, request, answer) for request, answer in zip(requests, answers, strict=True)]
    return streams[0] if len(streams) == 1 else _merge_accepted(streams)


async def _merge_accepted(
    streams: Sequence[AsyncGenerator[Piece | None, None]],
) -> AsyncGenerator[Piece | None, None]:
    """The items of all streams, once each has its first."""
    try:
        first_items = [await anext(stream) for stream in streams]
        for first in first_items:
            if first is not None:
                yield first
        if all(first is None for first in first_items):
            yield None
        async with contextlib.aclosing(merge_streams(streams)) as merged:
            async for item in merged:
                yield item
    finally:
        for stream in streams:
            await stream.aclose()


async def _stream_one(
    engine: InferenceEngine, request: GenerationRequest, answer: RunningAnswer[Piece]
) -> AsyncGenerator[Piece | None, None]:
    charge = current_charge()
    try:
        async with contextlib.aclosing(engine.generate(request)) as chunks:
            async for chunk in chunks:
                for piece in answer.advance(chunk) or (None,):
                    yield piece
                if answer.has_ended and chunk.finish_reason is None:
                    # A stop string ended the answer. An explicit abort is measured as such; closing the stream would be
                    # measured as a client that disconnected.
                    await engine.abort(request.request_id)
                    async for _ in chunks:
                        pass
    finally:
        charge(UsageCounts(reasoning_tokens=answer.reasoning_tokens))
    final_finish_reason(answer)


def final_finish_reason(answer: RunningAnswer[Piece]) -> FinishReason:
    """The finish reason of an answer whose stream has ended. Raises EngineError if there is none."""
    if answer.finish_reason is None:
        raise EngineError("The engine stopped without a finish reason; the answer may be incomplete.")
    return answer.finish_reason
