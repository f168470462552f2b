"""A grammar for a whole harmony answer: reasoning is free, the final message or the call is held to its schema.

Written for llguidance (https://github.com/guidance-ai/llguidance, docs/syntax.md), where special tokens are terminals
of their own and no text can ever match one. It begins after the prompt's `<|start|>assistant`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from tuneyard.chats.messages import ChatTool

ANY_OBJECT: dict[str, Any] = {"type": "object"}
_SPACING = {"x-guidance": {"whitespace_pattern": r"[ \n]{0,40}"}}
"""Enough to indent with, and no endless blanks, into which models fall when a grammar lets them."""

_HEAD = r"""%llguidance {}
start: (analysis | preamble)* ending
analysis: <|channel|> "analysis" <|message|> TEXT <|end|> <|start|> "assistant"
preamble: <|channel|> "commentary" <|message|> TEXT <|end|> <|start|> "assistant"
TEXT: /(.|\n)*/
json: " "? <|constrain|> "json" | " json" | " code" | ""
"""


def answer_grammar(
    tools: Sequence[ChatTool] = (),
    *,
    ending: Literal["answer", "call", "either"],
    schema: dict[str, Any] | None = None,
) -> str:
    """The grammar of an answer that ends with a final message, with a call of one of `tools`, or with either.

    `schema`: JSON schema of the final message; None leaves it free text. A tool without parameters takes any object.
    """
    endings = []
    rules = [_HEAD]
    if ending in ("answer", "either"):
        endings.append("final")
        rules.append('final: <|channel|> "final" json <|message|> body <|return|>\n')
        rules.append("body: TEXT\n" if schema is None else f"body: {_json(schema)}\n")
    if ending in ("call", "either"):
        for number, tool in enumerate(tools):
            endings.append(f"call{number}")
            recipient = f" to=functions.{tool.function.name}"
            rules.append(
                f'call{number}: ({json.dumps(recipient)} <|channel|> "commentary" '
                f"| <|channel|> {json.dumps('commentary' + recipient)}) json <|message|> args{number} <|call|>\n"
                f"args{number}: {_json(tool.function.parameters or ANY_OBJECT)}\n"
            )
    rules.append(f"ending: {' | '.join(endings)}\n")
    return "".join(rules)


def _json(schema: dict[str, Any]) -> str:
    return f"%json {json.dumps(schema | _SPACING)}"
