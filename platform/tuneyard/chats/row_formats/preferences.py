"""Converters of preference data (DPO, KTO, UltraFeedback): the half that `data.preference` names is the chat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tuneyard.chats.row_formats.chat_row import (
    ChatRow,
    Finding,
    FormatProblem,
    is_empty,
    parse_if_json,
    take_list,
    take_text,
)
from tuneyard.chats.row_formats.conversations import from_openai
from tuneyard.chats.row_formats.instructions import from_prompt_completion, pair_of, text_or_messages
from tuneyard.chats.row_formats.message_fields import normalize_messages, one_value
from tuneyard.core.wording import short_repr

if TYPE_CHECKING:
    from tuneyard.chats.row_settings import RowSettings

PROMPT_COLUMNS = ("prompt", "question", "instruction", "input")
"""Columns that hold the question of a pair of texts."""

CHOICE = "Set data.preference=chosen or data.preference=rejected to train on one of them"
_TURN = re.compile(r"(?:\A|\n\n)(Human|Assistant):[ \n]?")


def as_label(value: Any) -> bool | None:
    """KTO's label, which may be a number or a text; None if it is none."""
    if isinstance(value, str):
        return {"true": True, "false": False, "1": True, "0": False}.get(value.lower())
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else None


def from_preference(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts the half of a chosen and a rejected answer that `data.preference` names.

    A half is a list of messages, a text that answers one of PROMPT_COLUMNS, or a transcript of `Human:` and
    `Assistant:`.
    """
    half = settings.preference
    if half is None:
        raise FormatProblem(f"the row has a `chosen` and a `rejected` answer. {CHOICE}", "preference_pair")
    other = "rejected" if half == "chosen" else "chosen"
    chat = ChatRow([], used={"chosen", "rejected"})
    value = parse_if_json(row[half])
    prompt = next((name for name in PROMPT_COLUMNS if not is_empty(row.get(name))), None)
    if isinstance(value, dict):
        value = [value]
    if isinstance(value, list):
        chat.messages = normalize_messages(value, chat.findings, half)
        first = chat.messages[0] if chat.messages and isinstance(chat.messages[0], dict) else {}
        if prompt is not None and (first.get("role") == "assistant" or isinstance(row[prompt], list)):
            before = text_or_messages(row, prompt, "user", chat.findings)
            if first.get("role") != "assistant":
                one_value([chat.messages[: len(before)], before], f"`{prompt}`")
            else:
                chat.messages = before + chat.messages
            chat.used.add(prompt)
    elif prompt is not None:
        chat.messages = [
            *text_or_messages(row, prompt, "user", chat.findings),
            {"role": "assistant", "content": take_text(row, half)},
        ]
        chat.used.add(prompt)
    else:
        chat.messages = _from_transcript(take_text(row, half), half)
    if "messages" in row and row["messages"] in (row["chosen"], row["rejected"]):
        chat.used.add("messages")
    text = f"`{other}` is not used, because data.preference is {half}: {short_repr(row[other])}"
    chat.findings.append(Finding("unused_answer", text, other))
    return chat


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
