"""Grammars for whole harmony answers: free reasoning, then a final message or a call that follows its JSON schema.

The grammars are for llguidance (https://github.com/guidance-ai/llguidance, docs/syntax.md), in which special tokens are
terminals of their own that no text can match. A grammar begins behind the prompt's `<|start|>assistant`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Literal

from tuneyard.chats.messages import ChatTool

ANY_OBJECT: dict[str, Any] = {"type": "object"}
_WHITESPACE = {"x-guidance": {"whitespace_pattern": r"[ \n]{0,40}"}}
"""Enough for indentation. Without a limit, models can fall into writing whitespace without end."""

TOOL_RULE = re.compile(r"args(\d+):")
"""The beginning of the line with the schema of a tool; the number is the tool's, from 0."""

_HEAD = r"""%llguidance {}
start: (analysis | preamble)* ending
analysis: <|channel|> "analysis" <|message|> TEXT <|end|> <|start|> "assistant"
preamble: <|channel|> "commentary" <|message|> TEXT <|end|> <|start|> "assistant"
TEXT: /(.|\n)*/
json: " "? <|constrain|> "json" | " json" | " code" | ""
"""
_FINAL = 'final: <|channel|> "final" json <|message|> body'


def answer_grammar(
    tools: Sequence[ChatTool] = (),
    *,
    ending: Literal["answer", "call", "either"],
    schema: dict[str, Any] | None = None,
) -> str:
    """The grammar of an answer that ends with a final message, with a call of one of `tools`, or with either.

    `schema` is the JSON schema of the final message; None allows any text. A tool without parameters takes any object.
    """
    endings = []
    rules = [_HEAD]
    if ending in ("answer", "either"):
        endings.append("final")
        rules.append(f"{_FINAL} <|return|>\n")
        rules.append("body: TEXT\n" if schema is None else f"body: {_json_rule(schema)}\n")
    if ending in ("call", "either"):
        for number, tool in enumerate(tools):
            endings.append(f"call{number}")
            recipient = f" to=functions.{tool.function.name}"
            rules.append(
                f'call{number}: ({json.dumps(recipient)} <|channel|> "commentary" '
                f"| <|channel|> {json.dumps('commentary' + recipient)}) json <|message|> args{number} <|call|>\n"
                f"args{number}: {_json_rule(tool.function.parameters or ANY_OBJECT)}\n"
            )
    rules.append(f"ending: {' | '.join(endings)}\n")
    return "".join(rules)


def leave_end_to_engine(grammar: str) -> str:
    """A grammar of answer_grammar for an engine that tells llguidance that `<|return|>` is its end token.

    llguidance takes its end token wherever the grammar may end, and never as a terminal of the grammar.
    """
    return grammar.replace(f"\n{_FINAL} <|return|>\n", f"\n{_FINAL}\n")


def _json_rule(schema: dict[str, Any]) -> str:
    return f"%json {json.dumps(schema | _WHITESPACE)}"
