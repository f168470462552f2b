"""The only place where a request becomes a prompt: the messages of a chat, or plain text, as token ids."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Sequence

from serve_apps.generation.request_limits import check_text_length
from serve_apps.generation.served_model import ServedModel
from tuneyard.api.wire.messages import RequestMessage
from tuneyard.chats.messages import ChatTool
from tuneyard.chats.validation import find_order_problem
from tuneyard.core.errors import RequestError
from tuneyard.harmony.settings import ReasoningEffort

logger = logging.getLogger(__name__)


def render_prompt(
    model: ServedModel,
    messages: Sequence[RequestMessage],
    tools: Sequence[ChatTool] = (),
    effort: ReasoningEffort | None = None,
    today: datetime.date | None = None,
) -> list[int]:
    """The prompt of a chat, rendered by the codec that training used.

    `effort=None` takes the codec's setting. `today=None` reads the clock, if the prompt format has a date.
    Raises RequestError for text that is too long, messages out of order, and whatever harmony cannot render.
    """
    chat = [message.to_chat_message() for message in messages]
    check_text_length([message.content + (message.reasoning_content or "") for message in chat], model.max_model_len)
    problem = find_order_problem([message.role for message in messages], for_completion=True)
    if problem is not None:
        raise RequestError(f"The messages are out of order: {problem}.", param="messages")
    try:
        return model.codec.render(chat, tools, effort, today)
    except Exception as e:
        # Harmony refuses some input that JSON allows, such as deeply nested parameters. The error's text may quote the
        # chat, so only its type is logged.
        logger.info("harmony refuses a chat: %s", type(e).__name__)
        raise RequestError(
            f"The chat cannot be rendered as a prompt: {e}.", param="tools" if tools else "messages"
        ) from e


def encode_text(model: ServedModel, text: str) -> list[int]:
    """The ids of plain text, which never become special tokens. Raises RequestError for text that is too long."""
    check_text_length([text], model.max_model_len)
    return model.codec.encode_text(text)
