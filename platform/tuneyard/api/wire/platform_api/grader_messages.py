"""Messages that are templates: of a grading model's prompt, and of the prompt that a run samples with."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from tuneyard.api.wire.base import RequestModel
from tuneyard.api.wire.responses.union_tags import tag_of_shape
from tuneyard.evaluation.templates import Template

_NOT_TEXT = ("input_image", "input_audio", "image_url")


def _check_template(text: str) -> str:
    Template.parse(text)
    return text


TemplateText = Annotated[str, AfterValidator(_check_template)]
"""A text whose variables, such as {{ item.answer }}, are well formed."""


class TextContent(RequestModel):
    """A text of a message."""

    type: Literal["input_text", "output_text"]
    text: TemplateText
    prompt_cache_breakpoint: dict[str, Any] | None = None
    """A label: how a prompt's beginning is cached changes no answer."""


def _as_content(value: Any) -> Any:
    """The content of a message with its texts as objects. Raises ValueError for images and audio."""
    if isinstance(value, str):
        return {"type": "input_text", "text": value}
    if isinstance(value, dict) and value.get("type") in _NOT_TEXT:
        raise ValueError(f"{value['type']} is not supported: the models that are served here read text only")
    return [_as_content(part) for part in value] if isinstance(value, list) else value


Content = Annotated[
    Annotated[TextContent, Tag("text-shape")] | Annotated[list[TextContent], Tag("array-shape")],
    Discriminator(lambda value: tag_of_shape("" if not isinstance(value, list) else value)),
    BeforeValidator(_as_content),
]
"""One text, or a list of texts, which are joined."""


class TemplateMessage(RequestModel):
    """A message whose texts may have variables."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    phase: Literal["commentary", "final_answer"] | None = None
    """A label of some OpenAI models' messages."""

    @property
    def texts(self) -> list[str]:
        """The templates of the content, in order."""
        return [part.text for part in (self.content if isinstance(self.content, list) else [self.content])]
