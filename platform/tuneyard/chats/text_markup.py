"""Reasoning and calls that assistant messages spell as text: found, and converted to reasoning and calls on request."""

from __future__ import annotations

import re
from typing import Any

from tuneyard.chats.row_formats.call_fields import call_of
from tuneyard.chats.row_formats.chat_row import ChatRow, Finding, FormatProblem, is_empty, parse_literal
from tuneyard.chats.row_formats.message_fields import one_value
from tuneyard.chats.row_formats.tool_fields import normalize_tools
from tuneyard.core.wording import short_repr

REASONING_TAGS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
)
"""Begin and end of reasoning: DeepSeek-R1, Qwen and others; Reflection; OpenThoughts; Mistral."""

SOLUTION_TAGS = ("<|begin_of_solution|>", "<|end_of_solution|>")
"""Begin and end of the answer after OpenThoughts' reasoning."""

CALL_TAGS = ("<tool_call>", "</tool_call>")
RESULT_TAGS = ("<tool_response>", "</tool_response>")
"""Hermes' and Qwen's calls and results."""

CHANNEL = "<|channel|>"
HERMES_TOOLS = ("<tools>", "</tools>")
"""Hermes' declarations of tools in the system message."""

MARKS = tuple(
    dict.fromkeys(
        (*(tag for pair in REASONING_TAGS for tag in pair), *SOLUTION_TAGS, *CALL_TAGS, CHANNEL, "<functioncall>")
    )
)
"""Texts in an assistant message that are markup."""

_MARK = re.compile("|".join(map(re.escape, MARKS)))
_CALL = re.compile(f"{CALL_TAGS[0]}(.*?)(?:{CALL_TAGS[1]}|\\Z)", re.DOTALL)
_RESULT = re.compile(f"{RESULT_TAGS[0]}(.*?){RESULT_TAGS[1]}", re.DOTALL)
_HARMONY = re.compile(
    r"(?:<\|start\|>assistant)?(?: to=functions\.(?P<early>[\w-]+))?<\|channel\|>(?P<channel>\w+)"
    r"(?: to=functions\.(?P<late>[\w-]+))?(?: *(?:<\|constrain\|>)?json)?<\|message\|>"
    r"(?P<text>.*?)(?:<\|end\|>|<\|return\|>|<\|call\|>|\Z)",
    re.DOTALL,
)


def handle_markup(chat: ChatRow, *, converts: bool) -> None:
    """Converts the markup of a chat's assistant messages, or adds a finding for the first of each message.

    Changes `chat`. Raises FormatProblem for markup that cannot be converted.
    """
    spelled = [
        (position, match.group())
        for position, message in enumerate(chat.messages)
        if isinstance(message, dict)
        and message.get("role") == "assistant"
        and isinstance(content := message.get("content"), str)
        and ("<" in content or "[" in content)
        and (match := _MARK.search(content))
    ]
    if not spelled:
        return
    if not converts:
        for position, mark in spelled:
            text = (
                f"message {position + 1} (assistant) spells {mark!r} as text, which would be trained as the answer. "
                "Set data.text_markup=convert to make it reasoning or a call, or data.problems.text_markup=ignore to "
                "train it as text"
            )
            chat.findings.append(Finding("text_markup", text))
        return
    positions = {position for position, _ in spelled}
    messages: list[Any] = []
    for position, message in enumerate(chat.messages):
        if position in positions:
            messages.append(_convert(message, position + 1))
        elif isinstance(message, dict) and message.get("role") == "tool" and isinstance(message.get("content"), str):
            messages += _split_results(message)
        else:
            messages.append(message)
    chat.messages = messages
    _declare_tools(chat)


def _convert(message: dict[str, Any], number: int) -> dict[str, Any]:
    """The message with reasoning and calls taken out of its content."""
    content: str = message["content"]
    reasoning = [] if is_empty(message.get("reasoning_content")) else [message["reasoning_content"]]
    calls: list[Any] = list(message.get("tool_calls") or [])
    if CHANNEL in content:
        content = _take_harmony(content, reasoning, calls, number)
    else:
        content = _take_reasoning(content, reasoning, number)
        content = _take_calls(content, calls, number)
    if mark := _MARK.search(content):
        raise FormatProblem(
            f"message {number} (assistant) spells {mark.group()!r} in a way that cannot be converted: "
            f"{short_repr(content[mark.start() :])}",
            "text_markup",
        )
    fields = {key: value for key, value in message.items() if key not in ("content", "reasoning_content", "tool_calls")}
    fields["content"] = content
    if reasoning:
        fields["reasoning_content"] = one_value(reasoning, f"message {number}: the reasoning")
    return fields | ({"tool_calls": calls} if calls else {})


def _take_reasoning(content: str, reasoning: list[Any], number: int) -> str:
    """The content without its reasoning, which must come first; R1's template leaves out the opening tag."""
    for begin, end in REASONING_TAGS:
        if end not in content:
            continue
        before, _, after = content.partition(end)
        said, opened, thought = before.partition(begin)
        if opened and said.strip():
            raise FormatProblem(
                f"message {number} (assistant) has text before {begin}, so the reasoning cannot be converted: "
                f"{short_repr(said)}",
                "text_markup",
            )
        if text := (thought if opened else before).strip():
            reasoning.append(text)
        content = after.strip()
        break
    begin, end = SOLUTION_TAGS
    if content.startswith(begin):
        content = content.removeprefix(begin).removesuffix(end).strip()
    return content


def _take_calls(content: str, calls: list[Any], number: int) -> str:
    """The content without its calls."""
    if CALL_TAGS[0] not in content:
        return content
    for match in _CALL.finditer(content):
        call = parse_literal(match[1].strip())
        if not isinstance(call, dict) or not {"name"} <= call.keys() <= {"name", "arguments", "id"}:
            raise FormatProblem(
                f"message {number} (assistant): {CALL_TAGS[0]} must hold `name` and `arguments`, found "
                f"{short_repr(match[1].strip())}",
                "text_markup",
            )
        calls.append(call_of(call["name"], call.get("arguments")) | ({"id": call["id"]} if "id" in call else {}))
    return _CALL.sub("", content).strip()


def _take_harmony(content: str, reasoning: list[Any], calls: list[Any], number: int) -> str:
    """The text of the channels `final` and `commentary`; `analysis` is reasoning, and a recipient makes it a call."""
    texts: list[str] = []
    thoughts: list[str] = []
    position = 0
    for match in _HARMONY.finditer(content):
        if content[position : match.start()].strip():
            break
        position = match.end()
        name = match["early"] or match["late"]
        if name:
            calls.append(call_of(name, match["text"]))
        elif match["channel"] == "analysis":
            thoughts.append(match["text"])
        else:
            texts.append(match["text"])
    rest = content[position:].strip()
    if rest:
        raise FormatProblem(
            f"message {number} (assistant) spells {CHANNEL!r} in a way that cannot be converted: {short_repr(rest)}",
            "text_markup",
        )
    if thoughts:
        reasoning.append("\n".join(thoughts))
    return "\n".join(texts)


def _split_results(message: dict[str, Any]) -> list[dict[str, Any]]:
    """A tool message without Hermes' tags; several results in one message become one message each."""
    content = message["content"]
    results = [match[1].strip() for match in _RESULT.finditer(content)]
    if not results or _RESULT.sub("", content).strip():
        return [message]
    return [message | {"content": result} for result in results]


def _declare_tools(chat: ChatRow) -> None:
    """Declares the tools that Hermes' system message lists, and leaves out the message, which says how to spell calls.

    A column `tools` counts instead of the list.
    """
    first = chat.messages[0] if chat.messages else None
    text = first.get("content") if isinstance(first, dict) and first.get("role") == "system" else None
    if not isinstance(text, str) or not all(tag in text for tag in (*HERMES_TOOLS, CALL_TAGS[0])):
        return
    if not chat.tools:
        chat.tools = normalize_tools(_listed_tools(text), chat.findings, "system")
    if not chat.tools:
        return
    chat.messages.pop(0)
    chat.findings.append(
        Finding(
            "replaced_text",
            "the system message lists the tools and says how to spell calls as text; the tools are declared instead, "
            f"and the text is left out: {short_repr(text)}",
            "system",
        )
    )


def _listed_tools(text: str) -> list[Any]:
    """The tools between the last pair of Hermes' tags: a JSON list, or one JSON object per line."""
    listed = text.rpartition(HERMES_TOOLS[1])[0].rpartition(HERMES_TOOLS[0])[2].strip()
    whole = parse_literal(listed)
    values = whole if isinstance(whole, list) else [parse_literal(line) for line in listed.splitlines() if line.strip()]
    return values if all(isinstance(value, dict) for value in values) else []
