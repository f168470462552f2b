"""Requests of POST /v1/responses. Source: OpenAI API reference, responses."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag

from tuneyard.api.wire.base import RequestModel, without_nulls
from tuneyard.api.wire.responses.items import InputItem, MessageItem, check_item_types
from tuneyard.api.wire.responses.text_format import ReasoningConfig, TextConfig, check_format_type
from tuneyard.api.wire.responses.tools import FunctionTool, ToolChoice, check_choice_types, without_ignored
from tuneyard.api.wire.responses.union_tags import tag_of_shape
from tuneyard.core.errors import RequestError

HARMLESS: dict[str, tuple[Any, ...]] = {
    "access_programs": (),
    "background": (False,),
    "background_options": (),
    "context_management": ([],),
    "conversation": (),
    "image": (),
    "moderation": (),
    "prompt": (),
    "truncation": ("disabled",),
    "service_tier": ("auto", "default"),
}
"""OpenAI's parameters that this server does not support, with the values that change nothing and are accepted."""

LOGPROBS = "message.output_text.logprobs"

Label = Annotated[str, Field(max_length=512)]
"""A value that is stored and given back, and changes nothing else."""


class StreamOptions(RequestModel):
    """Options of a streamed answer."""

    include_obfuscation: bool = False
    """Whether deltas carry a field `obfuscation` of random length, so that an observer of the encrypted connection
    cannot read text from the sizes of events. OpenAI's default is true."""


class ResponsesRequest(RequestModel):
    """Body of POST /v1/responses."""

    model: str
    input: Annotated[
        Annotated[str, Tag("text-shape")] | Annotated[list[InputItem], Tag("array-shape")], Discriminator(tag_of_shape)
    ] = Field(default_factory=list)
    instructions: str | None = None
    """Rendered as a first developer message. It does not carry over to the next response."""
    tools: list[FunctionTool] = Field(default_factory=list)
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    """Changes nothing: a harmony message calls one function, so calls are never parallel."""
    max_tool_calls: int | None = None
    """Changes nothing: it limits built-in tools, and there are none."""
    text: TextConfig = Field(default_factory=TextConfig)
    reasoning: ReasoningConfig = Field(default_factory=ReasoningConfig)
    max_output_tokens: int | None = Field(default=None, ge=1)
    """The most tokens to generate, reasoning included."""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_logprobs: int = Field(default=0, ge=0, le=20)
    include: list[
        Literal[
            "file_search_call.results",
            "web_search_call.results",
            "web_search_call.action.sources",
            "message.input_image.image_url",
            "computer_call_output.output.image_url",
            "code_interpreter_call.outputs",
            "reasoning.encrypted_content",
            "message.output_text.logprobs",
        ]
    ] = Field(default_factory=list)
    """Only `message.output_text.logprobs` adds something. Reasoning is answered as text and never encrypted; the other
    values concern built-in tools and images, which no answer has."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    store: bool | None = None
    """Whether the response is stored. null: true if the deployment stores responses (`responses.store`), else false."""
    previous_response_id: str | None = None
    """A stored response, whose input and output come before `input`."""
    metadata: dict[Annotated[str, Field(max_length=64)], Label] = Field(default_factory=dict, max_length=16)
    client_metadata: dict[str, Any] | None = None
    user: Label | None = None
    safety_identifier: Label | None = None
    prompt_cache_key: Label | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    seed: int | None = None
    """This and the next six fields are not OpenAI's for this route; they mean what they mean for chat completions."""
    stop: str | list[str] | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None

    @classmethod
    def parse(cls, body: Any, ignored_tools: Collection[str] = ()) -> Self:
        """Returns the request in a decoded JSON body. Raises RequestError that names the parameter at fault.

        A null counts as absent. Tools whose type is in `ignored_tools` are left out.
        """
        if not isinstance(body, dict):
            return super().parse(body)
        fields = _without_harmless(without_nulls(body))
        if isinstance(fields.get("input"), list):
            check_item_types(fields["input"])
        if "tools" in fields:
            fields["tools"] = without_ignored(fields["tools"], ignored_tools)
        check_choice_types(fields.get("tool_choice"))
        check_format_type(fields.get("text"))
        return super().parse(fields)

    def check(self) -> None:
        if self.stream_options is not None and not self.stream:
            raise RequestError("stream_options is only allowed with stream=true.", param="stream_options")
        if not self.input and self.previous_response_id is None:
            raise RequestError("Missing required parameter: 'input'.", "input", "missing_required_parameter")

    @property
    def input_items(self) -> list[InputItem]:
        """`input` as items; a text is a user's message."""
        if isinstance(self.input, str):
            return [MessageItem(role="user", content=self.input)]
        return self.input

    @property
    def has_logprobs(self) -> bool:
        return LOGPROBS in self.include or self.top_logprobs > 0


def _without_harmless(body: dict[str, Any]) -> dict[str, Any]:
    """The body without parameters of HARMLESS. Raises RequestError for one whose value would change the answer."""
    kept = dict(body)
    for name, values in HARMLESS.items():
        if name in kept and not any(type(kept[name]) is type(value) and kept[name] == value for value in values):
            accepted = f" Accepted values: {', '.join(map(repr, values))}." if values else ""
            raise RequestError(f"{name!r} is not supported by this server.{accepted}", param=name, code="unsupported")
        kept.pop(name, None)
    return kept
