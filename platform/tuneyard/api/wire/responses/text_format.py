"""The form of an answer's text, and its reasoning: the request's `text` and `reasoning`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from tuneyard.api.wire.base import RequestModel, without_nulls
from tuneyard.api.wire.effort import RequestedEffort
from tuneyard.api.wire.responses.union_tags import tag_of_type, unsupported_type
from tuneyard.core.errors import RequestError

FORMAT_TYPES = ("text", "json_object", "json_schema")


class PlainText(RequestModel):
    """Free text, the default."""

    type: Literal["text"] = "text"


class JsonObject(RequestModel):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(RequestModel):
    """JSON that satisfies a schema. It is always enforced, whatever `strict` says."""

    type: Literal["json_schema"]
    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


TextFormat = Annotated[
    Annotated[PlainText, Tag("text-type")]
    | Annotated[JsonObject, Tag("json_object-type")]
    | Annotated[JsonSchema, Tag("json_schema-type")],
    Discriminator(tag_of_type),
]


class TextConfig(RequestModel):
    """The form of the answer's text."""

    format: TextFormat = Field(default_factory=PlainText)
    verbosity: Literal["low", "medium", "high"] | None = None

    def format_for_chat(self) -> dict[str, Any] | None:
        """`response_format` of a chat completion request; None for free text."""
        fields = without_nulls(self.format.model_dump(by_alias=True))
        match fields.pop("type"):
            case "json_schema":
                return {"type": "json_schema", "json_schema": fields}
            case "json_object":
                return {"type": "json_object"}
            case _:
                return None


class ReasoningConfig(RequestModel):
    """How much the model reasons, and in which form its reasoning is answered."""

    effort: RequestedEffort | None = None
    """As `reasoning_effort` of chat completions: the nearest of low, medium and high."""
    summary: Literal["auto", "concise", "detailed"] | None = None
    """Where given, reasoning comes as `summary` of a reasoning item, otherwise as its `content`. In both cases the text
    is the model's reasoning itself: nothing here summarises it."""
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """OpenAI's older name of `summary`."""
    context: Literal["auto", "current_turn"] | None = None
    mode: Literal["standard"] | None = None

    @property
    def has_summary(self) -> bool:
        return (self.summary or self.generate_summary) is not None


def check_format_type(text: Any) -> None:
    """Raises RequestError that names a format of `text` that is not supported."""
    form = text.get("format") if isinstance(text, dict) else None
    if form is None:
        return
    if not isinstance(form, dict):
        raise RequestError("Invalid value for 'text.format': must be an object.", "text.format", "invalid_value")
    if form.get("type") not in FORMAT_TYPES:
        raise unsupported_type(form.get("type"), "text.format", FORMAT_TYPES)
