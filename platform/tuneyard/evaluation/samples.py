"""Sample: a model's answer as graders see it, the namespace `sample` of templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sample:
    """The first choice of a chat completion: its text and its tool calls, as JSON has them."""

    text: str
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    choices: tuple[Mapping[str, Any], ...] = ()
    is_well_formed: bool = True
    """The model ended the answer itself, in harmony's format."""

    @classmethod
    def from_completion(cls, completion: Mapping[str, Any]) -> Sample:
        """The sample in the JSON of a chat completion."""
        choice = completion["choices"][0]
        return cls(
            text=choice["message"].get("content") or "",
            tool_calls=tuple(choice["message"].get("tool_calls") or ()),
            choices=tuple(completion["choices"]),
            is_well_formed=choice["finish_reason"] in ("stop", "tool_calls")
            and not choice.get("harmony_malformed", False),
        )

    def variables(self) -> dict[str, Any]:
        """The namespace `sample`: output_text, output_tools, choices, and output_json if the text is JSON.

        Source: OpenAI, guide "Graders", section "Sample namespace". It gives output_json only with a response_format.
        """
        values = {"output_text": self.text, "output_tools": list(self.tool_calls), "choices": list(self.choices)}
        try:
            return values | {"output_json": json.loads(self.text)}
        except (ValueError, RecursionError):  # most answers are no JSON, or nested deeper than the parser goes
            return values


def text_with_calls(text: str | None, calls: Sequence[Mapping[str, Any]]) -> str:
    """An answer's text, followed by one line per tool call: `name(arguments)`, with the arguments' keys sorted."""
    lines = [f"{call['function']['name']}({_sort_keys(call['function']['arguments'])})" for call in calls]
    return "\n".join(filter(None, [text, *lines]))


def _sort_keys(arguments: str) -> str:
    """A call's arguments with sorted JSON keys, so that their order does not count; as they are if not valid JSON."""
    try:
        return json.dumps(json.loads(arguments), sort_keys=True, ensure_ascii=False)
    except ValueError:
        return arguments
