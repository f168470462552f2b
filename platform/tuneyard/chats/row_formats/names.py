"""Names and columns of the supported formats. Imports nothing heavy: the help of commands shows the names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DatasetFormat = Literal[
    "openai", "sharegpt", "alpaca", "prompt_completion", "squad", "preference", "openai_preference", "kto",
    "ultrafeedback", "oasst", "conversation", "toolace", "glaive", "xlam", "openai_evals", "nemotron", "dolly", "orca",
    "openthoughts", "ultrachat", "question_answer",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FormatName:
    """The name of a format in messages, the columns that its rows have, and what they become, for the guide."""

    title: str
    keys: tuple[str, ...]
    becomes: str


FORMATS: dict[DatasetFormat, FormatName] = {
    "ultrafeedback": FormatName(
        "UltraFeedback", ("instruction", "completions"), "the completion with the best or the worst `overall_score`"
    ),
    "preference": FormatName(
        "preference pairs (DPO)", ("chosen", "rejected"), "a pair, or one half, by `data.preference`"
    ),
    "openai_preference": FormatName(
        "OpenAI preference pairs (DPO)",
        ("input", "preferred_output", "non_preferred_output"),
        "a pair, or one half, by `data.preference`",
    ),
    "kto": FormatName("KTO", ("prompt", "completion", "label"), "one half, by `data.preference`"),
    "oasst": FormatName("OpenAssistant trees", ("message_tree_id", "prompt"), "the path of the best-ranked replies"),
    "toolace": FormatName("ToolACE", ("system", "conversations"), "calls such as `[f(x=1)]`, and the functions"),
    "openai": FormatName("OpenAI chat", ("messages",), "the chat itself"),
    "sharegpt": FormatName(
        "ShareGPT", ("conversations",), "the chat; `function_call` and `observation` become a call and its result"
    ),
    "conversation": FormatName("list of messages", ("conversation",), "the chat; moderation fields are metadata"),
    "glaive": FormatName("Glaive function calling", ("system", "chat"), "the transcript's turns, calls and functions"),
    "xlam": FormatName("xLAM function calling", ("query", "answers", "tools"), "one question and its call"),
    "squad": FormatName(
        "SQuAD",
        ("context", "question", "answers"),
        "NeMo's prompt `Context: … Question: … Answer:` and the first answer",
    ),
    "openai_evals": FormatName("OpenAI evals", ("input", "ideal"), "the messages and the (first) ideal answer"),
    "nemotron": FormatName("Llama-Nemotron post-training", ("input", "output"), "the messages and the answer"),
    "alpaca": FormatName(
        "Alpaca", ("instruction", "output"), "one chat; `input` follows the instruction after a blank line"
    ),
    "dolly": FormatName(
        "Dolly", ("instruction", "response"), "one chat; `context` follows the instruction after a blank line"
    ),
    "prompt_completion": FormatName("prompt and completion", ("prompt", "completion"), "one question and one answer"),
    "orca": FormatName("Orca", ("system_prompt", "question", "response"), "system message, question and answer"),
    "openthoughts": FormatName(
        "OpenThoughts",
        ("problem", "deepseek_reasoning", "deepseek_solution"),
        "the problem, the reasoning and the solution",
    ),
    "ultrachat": FormatName("UltraChat", ("data",), "user and assistant in turn"),
    "question_answer": FormatName("question and answer", ("question", "answer"), "one question and one answer"),
}
"""The formats, in the order of detection."""

PAIR_FORMATS: tuple[DatasetFormat, ...] = ("preference", "openai_preference")
"""Formats whose rows hold two answers to one prompt."""

QUESTION_ANSWER_COLUMNS = (
    ("question", "answer"), ("query", "response"), ("prompt", "response"), ("question", "response"),
    ("problem", "solution"),
)  # fmt: skip
"""Pairs of columns that the format question_answer reads."""
