"""The JSON of a repeated chunk is that of the chunk itself, byte for byte, for any text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.answers.chat_answer import ChatPiece, PieceKind
from serve_apps.answers.repeated_chunk import RepeatedChunk
from serve_apps.http_front.events import chunk_json
from tuneyard.api.wire.chat_answer import ChatCompletionChunk, ChunkChoice

KINDS: tuple[PieceKind, ...] = ("content", "reasoning", "arguments")


def chunk(piece: ChatPiece, model: str, usage: dict[str, Any]) -> ChatCompletionChunk:
    choice = ChunkChoice(index=piece.index, delta=piece.delta())
    return ChatCompletionChunk(
        id="chatcmpl-1", created=1, model=model, system_fingerprint="f", choices=[choice], **usage
    )


@given(st.text(), st.sampled_from(KINDS), st.integers(0, 127), st.text(max_size=5), st.booleans())
def test_it_equals_the_models_json(text: str, kind: PieceKind, index: int, model: str, has_usage: bool) -> None:
    usage = {"usage": None} if has_usage else {}
    repeated = RepeatedChunk(lambda text: chunk(ChatPiece(index, kind, text), model, usage))
    assert repeated.json(text) == chunk_json(chunk(ChatPiece(index, kind, text), model, usage))


def test_half_a_character_is_refused_as_by_the_model() -> None:
    repeated = RepeatedChunk(lambda text: chunk(ChatPiece(0, "content", text), "m", {}))
    for encode in (repeated.json, lambda text: chunk_json(chunk(ChatPiece(0, "content", text), "m", {}))):
        with pytest.raises(Exception, match="surrogates"):
            encode("\ud800")
