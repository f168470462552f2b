"""The only place where a request becomes a prompt: the messages of a chat, or plain text, as token ids."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from serve_apps.generation.prompt_jobs import DecodeTokens, EncodeText, RenderChat
from serve_apps.generation.served_model import ServedModel
from serve_apps.tracing.span import current_span
from tuneyard.api.wire.messages import RequestMessage
from tuneyard.chats.messages import ChatTool
from tuneyard.core.errors import RequestError
from tuneyard.harmony.settings import ReasoningEffort


async def render_prompt(
    model: ServedModel,
    messages: Sequence[RequestMessage],
    tools: Sequence[ChatTool] = (),
    effort: ReasoningEffort | None = None,
    today: datetime.date | None = None,
) -> list[int]:
    """The prompt of a chat, rendered by the codec that training used. Long chats are rendered in a worker process.

    `effort=None` takes the codec's setting. `today=None` reads the clock, if the prompt format has a date.
    Raises RequestError for text beyond the limits and whatever harmony cannot render.
    """
    chat = tuple(message.to_chat_message() for message in messages)
    with current_span().start("render prompt") as span:
        ids: list[int] = await model.prompts.run(RenderChat(chat, tuple(tools), effort, today))
        span.add_tokens(len(ids), 0)
    return ids


async def encode_text(model: ServedModel, text: str) -> list[int]:
    """The ids of plain text, which never become special tokens. Raises RequestError for text beyond the limits."""
    with current_span().start("render prompt") as span:
        ids: list[int] = await model.prompts.run(EncodeText(text))
        span.add_tokens(len(ids), 0)
    return ids


async def decode_tokens(model: ServedModel, token_ids: Sequence[int], field: str) -> str:
    """The text of token ids, with special tokens spelled out.

    Raises RequestError, with `field` as the parameter at fault, for an id that the model does not have.
    """
    size = model.codec.vocabulary_size
    unknown = next((token_id for token_id in token_ids if not 0 <= token_id < size), None)
    if unknown is not None:
        raise RequestError(f"Token {unknown} does not exist; this model's token ids are 0 to {size - 1}.", param=field)
    text: str = await model.prompts.run(DecodeTokens(tuple(token_ids)))
    return text
