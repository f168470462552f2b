"""Long prompts are rendered in a worker process, to the same tokens, while the event loop runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from serve_apps.generation.prompt_encoder import PromptEncoder
from serve_apps.generation.prompt_jobs import DecodeTokens, EncodeText, RenderChat
from serve_apps.generation.prompt_preparation import INLINE_COST, PromptPreparation
from tuneyard.chats.messages import ChatMessage, ChatTool
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError
from tuneyard.harmony.codec import HarmonyCodec

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


@pytest.mark.parametrize("field", ["name", "description", "parameters"])
async def test_tools_are_held_to_the_limits_of_text(encoder: PromptEncoder, field: str) -> None:
    long = "a" * 20_000
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    function[field] = {"properties": {long: {}}} if field == "parameters" else long
    tool = ChatTool.model_construct(function=ChatTool.model_fields["function"].annotation.model_construct(**function))  # type: ignore[union-attr]
    with pytest.raises(RequestError, match="without a break") as caught:
        encoder.render([ChatMessage(role="user", content="hi")], [tool])
    assert caught.value.param == "tools"
