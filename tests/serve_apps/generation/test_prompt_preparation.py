"""Long prompts are rendered in a worker process, to the same tokens, while the event loop runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.generation.prompt_encoder import PromptEncoder
from serve_apps.generation.prompt_jobs import DecodeTokens, EncodeText, RenderChat
from serve_apps.generation.prompt_preparation import INLINE_COST, PromptPreparation
from tuneyard.chats.messages import ChatMessage, ChatTool
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import EngineError, RequestError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

WORDS = "The filter of the second pump is due. " * 400
LIMITS = HttpLimits()


@pytest.fixture
def encoder(codec: HarmonyCodec) -> PromptEncoder:
    return PromptEncoder(codec, 131_072, LIMITS)


@pytest.fixture
def preparation(encoder: PromptEncoder) -> Iterator[PromptPreparation]:
    preparation = PromptPreparation(encoder, LIMITS, 131_072)
    yield preparation
    preparation.close()


async def test_a_worker_gives_what_this_process_gives(encoder: PromptEncoder, preparation: PromptPreparation) -> None:
    tool = ChatTool.model_validate({"function": {"name": "f", "parameters": {"type": "object"}}})
    ids = encoder.encode(WORDS)
    for job in (
        RenderChat((ChatMessage(role="user", content=WORDS),), (tool,), "high", None),
        EncodeText(WORDS),
        DecodeTokens(tuple(ids * 10)),
    ):
        assert job.cost > INLINE_COST
        assert await preparation.run(job) == job.run(encoder)


async def test_a_worker_refuses_what_this_process_refuses(preparation: PromptPreparation) -> None:
    with pytest.raises(RequestError, match="without a break") as caught:
        await preparation.run(EncodeText("a" * 20_000))
    assert caught.value.param == "prompt"


async def test_thousands_of_characters_without_spaces_leave_the_event_loop(
    monkeypatch: pytest.MonkeyPatch, encoder: PromptEncoder, preparation: PromptPreparation
) -> None:
    text = "ปั๊มตัวที่สองต้องเปลี่ยนไส้กรอง" * 70
    assert len(text) < 8000 // 3
    job = RenderChat((ChatMessage(role="user", content=text),), (), None, None)
    expected = job.run(encoder)

    def render_here(*_arguments: object) -> list[int]:
        raise AssertionError("rendered in the event loop")

    monkeypatch.setattr(encoder, "render", render_here)
    assert await preparation.run(job) == expected


async def test_a_worker_that_does_not_start_is_not_the_requests_fault(tiny_oss_copy: Path) -> None:
    encoder = PromptEncoder(HarmonyCodec.from_checkpoint(tiny_oss_copy, CodecSettings()), 131_072, LIMITS)
    preparation = PromptPreparation(encoder, LIMITS, 131_072)
    shutil.rmtree(tiny_oss_copy)
    with pytest.raises(EngineError, match="while it started"):
        await preparation.run(EncodeText(WORDS))
    preparation.close()


@pytest.mark.parametrize("field", ["name", "description", "parameters"])
async def test_tools_are_held_to_the_limits_of_text(encoder: PromptEncoder, field: str) -> None:
    long = "a" * 20_000
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    function[field] = {"properties": {long: {}}} if field == "parameters" else long
    tool = ChatTool.model_construct(function=ChatTool.model_fields["function"].annotation.model_construct(**function))  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="without a break") as caught:
        encoder.render([ChatMessage(role="user", content="hi")], [tool])
    assert caught.value.param == "tools"
