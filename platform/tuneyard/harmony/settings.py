"""CodecSettings: what the system message of every prompt says."""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import field_validator

from tuneyard.core.strict_model import StrictConfig

ReasoningEffort = Literal["low", "medium", "high"]


class CodecSettings(StrictConfig):
    """What the system message says. It is part of every prompt, so training stores it in the checkpoint's manifest."""

    reasoning_effort: ReasoningEffort = "medium"
    """Default reasoning effort; a request can set another one."""

    model_identity: str | None = "You are ChatGPT, a large language model trained by OpenAI."
    """First line of the system message; null omits it."""

    knowledge_cutoff: str | None = "2024-06"
    """Date in the line "Knowledge cutoff"; null omits the line."""

    conversation_date: str | None = None
    """Date in the line "Current date": YYYY-MM-DD, or `today` for the date of the request; null omits the line."""

    channels_line: bool = True
    """Whether the system message has the line "# Valid channels". GPT-OSS was trained with it: keep it for GPT-OSS."""

    @field_validator("conversation_date", mode="before")
    @classmethod
    def _check_date(cls, value: object) -> object:
        # YAML parses an unquoted 2026-01-31 as a date.
        if isinstance(value, datetime.date):
            return value.isoformat()
        if isinstance(value, str) and value != "today":
            datetime.date.fromisoformat(value)
        return value
