"""Converters of preference data (DPO, KTO, UltraFeedback): the half that `data.preference` names is the chat.

Both halves of a row are joined as a pair in tuneyard.chats.preference_pairs.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    is_empty,
    parse_if_json,
    report_unknown,
    take_list,
    take_text,
)
from tuneyard.chats.row_formats.column_names import MEANINGFUL_COLUMNS, TOOL_COLUMNS
from tuneyard.chats.row_formats.conversations import from_openai, messages_of_turns
from tuneyard.chats.row_formats.instructions import from_prompt_completion, pair_of
from tuneyard.chats.row_formats.message_fields import normalize_messages, one_value
from tuneyard.chats.row_formats.tool_fields import normalize_tools
from tuneyard.core.wording import short_repr

if TYPE_CHECKING:
    from tuneyard.chats.row_settings import RowSettings

PROMPT_COLUMNS = ("prompt", "question", "instruction", "input", "messages", "conversations")
"""Columns that may hold what a pair of answers follows: a text, or a list of messages."""

LIST_COLUMNS = ("messages", "conversations")
"""Those of PROMPT_COLUMNS that are never a text."""

CHOICE = "Set data.preference=chosen or data.preference=rejected to train on one of them"
PAIR_CHOICE = f"Set training.objective=dpo to train on both. {CHOICE}"
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \n]?")


def as_label(value: Any) -> bool | None:
    """KTO's label, which may be a number or a text; None if it is none."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def from_preference(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts the half of a chosen and a rejected answer that `data.preference` names.

    A half is a list of messages or one message, with the messages of the prompt or without them; a text that answers
    the prompt; or a transcript of `Human:` and `Assistant:`, which needs none. The prompt is the first of
    PROMPT_COLUMNS.
    """
    half = settings.preference
    if half is None:
        raise FormatProblem(f"the row has a `chosen` and a `rejected` answer. {PAIR_CHOICE}", "preference_pair")
    chat = ChatRow([], used={"chosen", "rejected"})
    if "messages" in row and row["messages"] in (row["chosen"], row["rejected"]):
        chat.used.add("messages")  # UltraFeedback binarized repeats the chosen chat.
    prompt = next((c for c in PROMPT_COLUMNS if c not in chat.used and not is_empty(row.get(c))), None)
    value = parse_if_json(row[half])
    if not isinstance(value, dict | list) and prompt is None:
        chat.messages = _from_transcript(take_text(row, half), half)
    else:
        chat.messages = _answer_messages(value, row, half, chat.findings)
        first = chat.messages[0] if chat.messages and isinstance(chat.messages[0], dict) else {}
        is_whole_chat = first.get("role") != "assistant"
        # A text beside a whole chat is its first question, or not a part of it: shared_columns compares them.
        if prompt is not None and (not is_whole_chat or _is_list(row, prompt)):
            before = _prompt_messages(row, prompt, chat.findings)
            if is_whole_chat:
                one_value([chat.messages[: len(before)], before], f"`{prompt}`")
            else:
                chat.messages = before + chat.messages
            chat.used.add(prompt)
    other = "rejected" if half == "chosen" else "chosen"
    chat.findings.append(_unused(row, other, half))
    return chat


def from_openai_preference(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts the half of OpenAI's preference data that `data.preference` names.

    `input` holds `messages` and `tools`; each answer is a list of messages, or one message.
    """
    half = settings.preference
    if half is None:
        text = f"the row has a `preferred_output` and a `non_preferred_output`. {PAIR_CHOICE}"
        raise FormatProblem(text, "preference_pair")
    prompt = parse_if_json(row["input"])
    if not isinstance(prompt, dict) or "messages" not in prompt:
        raise FormatProblem(f"expected an object with a list `messages` in `input`, found {short_repr(row['input'])}")
    columns = {"chosen": "preferred_output", "rejected": "non_preferred_output"}
    other = columns["rejected" if half == "chosen" else "chosen"]
    column = columns[half]
    chat = ChatRow([], used={"input", column, other})
    chat.messages = [
        *normalize_messages(take_list(prompt, "messages"), chat.findings, "input.messages"),
        *_answer_messages(parse_if_json(row[column]), row, column, chat.findings),
    ]
    declared = [normalize_tools(prompt.get(name), chat.findings, f"input.{name}") for name in TOOL_COLUMNS]
    if declared := [tools for tools in declared if tools]:
        chat.tools = one_value(declared, "the tools")
    report_unknown(
        prompt, {"messages", "parallel_tool_calls", *TOOL_COLUMNS}, "input", MEANINGFUL_COLUMNS, chat.findings
    )
    chat.findings.append(_unused(row, other, half))
    return chat


def _prompt_messages(row: dict[str, Any], column: str, findings: list[Finding]) -> list[Any]:
    """The messages of the prompt: a text by the user, a list of messages, or ShareGPT's turns."""
    if not _is_list(row, column):
        return [{"role": "user", "content": take_text(row, column)}]
    return _messages_of(take_list(row, column), column, findings)


def _answer_messages(value: Any, row: dict[str, Any], column: str, findings: list[Finding]) -> list[Any]:
    """The messages of an answer: a text, one message or turn, or a list of them."""
    if not isinstance(value, dict | list):
        return [{"role": "assistant", "content": take_text(row, column)}]
    return _messages_of([value] if isinstance(value, dict) else value, column, findings)


def _messages_of(items: list[Any], column: str, findings: list[Finding]) -> list[Any]:
    is_turns = bool(items) and isinstance(items[0], dict) and "from" in items[0]
    return (messages_of_turns if is_turns else normalize_messages)(items, findings, column)


def _is_list(row: dict[str, Any], column: str) -> bool:
    """Whether a column of PROMPT_COLUMNS holds messages. A question may look like JSON."""
    return isinstance(row[column], list | tuple) or column in LIST_COLUMNS


def _unused(row: dict[str, Any], other: str, half: str) -> Finding:
    text = f"`{other}` is not used, because data.preference is {half}: {short_repr(row[other])}"
    return Finding("unused_answer", text, other)


def _from_transcript(text: str, column: str) -> list[Any]:
    """The messages of a text of `Human:` and `Assistant:`, as Anthropic's hh-rlhf has it."""
    head, *pieces = _TURN.split(text)
    if not pieces or head.strip():
        columns = ", ".join(f"`{name}`" for name in PROMPT_COLUMNS)
        raise FormatProblem(
            f"`{column}` is a text, and the row has no question: expected one of {columns}, or a text of `Human:` and "
            f"`Assistant:`, found {short_repr(text)}"
        )
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[name], "content": turn.strip()} for name, turn in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def from_kto(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts a row whose `label` says that the answer is good, or bad for `data.preference: rejected`."""
    label = as_label(row["label"])
    if label is None:
        raise FormatProblem(f"expected true or false in `label`, found {short_repr(row['label'])}")
    if settings.preference is None:
        answer = "good (chosen)" if label else "bad (rejected)"
        raise FormatProblem(f"`label` says that the answer is {answer}. {CHOICE}", "preference_pair")
    if label != (settings.preference == "chosen"):
        raise FormatProblem(
            f"`label` is {row['label']}, and data.preference is {settings.preference}: the row is left out",
            "other_half",
        )
    chat = from_openai(row) if "messages" in row else from_prompt_completion(row)
    chat.used.add("label")
    return chat


def from_ultrafeedback(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts the completion with the best `overall_score`, or the worst for `data.preference: rejected`."""
    completions = take_list(row, "completions")
    rated = [
        (item["overall_score"], number)
        for number, item in enumerate(completions)
        if isinstance(item, dict)
        and isinstance(item.get("overall_score"), int | float)
        and item["overall_score"] == item["overall_score"]
    ]
    if not rated:
        raise FormatProblem(f"expected objects with `overall_score` in `completions`, found {short_repr(completions)}")
    if settings.preference is None:
        raise FormatProblem(f"the row has {len(completions)} rated `completions`. {CHOICE}", "preference_pair")
    score, number = (max if settings.preference == "chosen" else min)(rated, key=lambda pair: pair[0])
    completion = completions[number]
    chat = ChatRow(
        pair_of(take_text(row, "instruction"), take_text(completion, "response")), used={"instruction", "completions"}
    )
    if not is_empty(completion.get("custom_system_prompt")):
        chat.messages.insert(0, {"role": "system", "content": take_text(completion, "custom_system_prompt")})
    text = (
        f"of {len(completions)} `completions`, number {number + 1} with the score {score} is trained on; the others, "
        "ratings and critiques are not used"
    )
    chat.findings.append(Finding("unused_answer", text, "completions"))
    return chat
