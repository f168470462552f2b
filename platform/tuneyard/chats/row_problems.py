"""The catalogue of problems that dataset rows can have: names, severities, meanings and fixes; and a row's problem.

`tuneyard data validate`, a run's preflight, `data.problems` of the config and the reference page take everything that
they say about a problem from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Severity = Literal["error", "warning", "note", "ignore", "drop"]
"""What happens to a problem. `error`: the run does not start. `warning` and `note`: it starts, and the problem is
counted and named. `ignore`: nothing. `drop`: the row is left out and counted."""

SEVERITIES: tuple[Severity, ...] = get_args(Severity)
UNUSABLE: tuple[Severity, ...] = ("error", "drop")
"""The choices for a problem that leaves no chat to train on."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One kind of problem: its name, what happens by default, what it means, and what to do.

    `choices` are the severities that `data.problems` may give it; none if it is always an error.
    """

    name: str
    severity: Severity
    meaning: str
    fix: str
    choices: tuple[Severity, ...] = SEVERITIES


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A problem of one row: its place (`where`), its name in PROBLEMS (`kind`), and a sentence with the fix (`text`).

    Problems of the same kind with the same `group` are alike in every row, for example an unknown column; only the
    first is shown. None: each is shown.
    """

    where: str
    kind: str
    text: str
    group: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


_KINDS = (
    ProblemKind(
        "unreadable",
        "error",
        "The row cannot be parsed: it is cut, badly quoted or not UTF-8.",
        "Correct the line. Each line of a JSONL file holds one complete object.",
        UNUSABLE,
    ),
    ProblemKind(
        "duplicate_key",
        "error",
        "The same key stands twice in one JSON object; only the last value can be used.",
        "Remove one of the two. With `warning` or `ignore` the last value counts; arguments of a "
        "call that are JSON text are trained as they are.",
    ),
    ProblemKind(
        "unknown_format",
        "error",
        "The columns of the row are those of no known format.",
        "Map its columns with `data.columns`, or convert the file.",
        UNUSABLE,
    ),
    ProblemKind(
        "wrong_format",
        "error",
        "The row does not have the form of its format: a column is missing or has another type.",
        "Correct the row, or set `data.format`.",
        UNUSABLE,
    ),
    ProblemKind(
        "wrong_field",
        "error",
        "A field of a message or a tool has a wrong value or type.",
        "Correct the field that the message names.",
        UNUSABLE,
    ),
    ProblemKind(
        "nan_value",
        "error",
        "A field that is rendered holds NaN or Infinity. pandas writes NaN for a missing value.",
        "Write null, or leave the field out.",
        UNUSABLE,
    ),
    ProblemKind(
        "nan_metadata",
        "note",
        "A column that is never rendered holds NaN or Infinity.",
        "Nothing needs to be done; null is the usual value for what is missing.",
    ),
    ProblemKind(
        "not_text",
        "error",
        "A part of a message is an image, a sound, a file or another part that is not text.",
        "Remove the part or the row: GPT-OSS reads text only.",
        UNUSABLE,
    ),
    ProblemKind(
        "lone_surrogate",
        "error",
        "A text holds half of a UTF-16 pair, which cutting a string in JavaScript leaves of an emoji.",
        "Remove the character.",
        UNUSABLE,
    ),
    ProblemKind(
        "given_twice",
        "error",
        "The row gives its system message, tools, reasoning, weight or a text twice, and the two differ.",
        "Keep the right one.",
        UNUSABLE,
    ),
    ProblemKind(
        "unknown_column",
        "warning",
        "A column or field is neither used nor known as harmless metadata.",
        "Map it with `data.columns` if it belongs to the chat, else set `unknown_column: ignore`.",
    ),
    ProblemKind(
        "meaningful_column",
        "error",
        "A column or field looks like a part of the chat, for example `images` or `label`, and cannot be used.",
        "Map it with `data.columns`, remove it, or set `meaningful_column: ignore` to train without it.",
    ),
    ProblemKind(
        "repeated_column",
        "note",
        "A column repeats the chat in another form, for example as a rendered prompt.",
        "Nothing needs to be done; the column is not used.",
    ),
    ProblemKind(
        "text_markup",
        "error",
        "An assistant message spells reasoning or a call as text, for example `<think>` or `<tool_call>`.",
        "Set `data.text_markup: convert`, or train it as text with `text_markup: ignore`.",
    ),
    ProblemKind(
        "preference_pair",
        "error",
        "The row holds a chosen and a rejected answer.",
        "Set `training.objective: dpo` to train on both, or `data.preference: chosen` or `rejected` to train on one "
        "of them.",
        UNUSABLE,
    ),
    ProblemKind(
        "no_pair",
        "error",
        "The row is no preference pair, and `training.objective: dpo` trains on nothing else.",
        "Give two answers to one prompt, or leave `training.objective` out.",
        UNUSABLE,
    ),
    ProblemKind(
        "different_prompts",
        "error",
        "The chosen and the rejected answer of a pair follow different messages or tools.",
        "Let both chats be the same but for the last message.",
        UNUSABLE,
    ),
    ProblemKind(
        "equal_answers",
        "error",
        "The chosen and the rejected answer of a pair are the same, so that nothing is learnt from it.",
        "Remove the row.",
    ),
    ProblemKind(
        "other_half",
        "drop",
        "The row belongs to the half of a preference dataset that `data.preference` does not use.",
        "Nothing needs to be done; the row is left out on request.",
        UNUSABLE,
    ),
    ProblemKind(
        "unused_answer",
        "note",
        "The row holds more answers than the one that is trained on.",
        "Nothing needs to be done if the choice is right.",
    ),
    ProblemKind(
        "unanswerable",
        "error",
        "The question has no answer, as in SQuAD v2.",
        "Drop such rows, or give the sentence to answer with as `data.unanswerable_answer`.",
        UNUSABLE,
    ),
    ProblemKind(
        "replaced_text",
        "note",
        "A system message spelled the declarations of tools; they are declared as tools, and the text is left out.",
        "Nothing needs to be done.",
    ),
    ProblemKind(
        "tool_renamed",
        "warning",
        "The name of a tool has characters that no OpenAI API accepts; they became underscores, in calls too.",
        "Rename the tool in the file if the model must know it by another name.",
    ),
    ProblemKind(
        "no_assistant_turn",
        "error",
        "The chat has no assistant message to train on.",
        "Remove the row, or add the answer.",
        UNUSABLE,
    ),
    ProblemKind(
        "role_order",
        "error",
        "The roles of the messages do not alternate as a chat's must.",
        "Write an optional system message, then user and assistant in turn, tool results after calls.",
        UNUSABLE,
    ),
    ProblemKind(
        "empty_content",
        "error",
        "A message has no text.",
        "Remove the message or the row.",
        UNUSABLE,
    ),
    ProblemKind(
        "tool_calls",
        "error",
        "A call has no result, a result no call, the tool is not declared, or the arguments are not a JSON object.",
        "Correct the calls that the message names.",
        UNUSABLE,
    ),
    ProblemKind(
        "unanswered_calls",
        "error",
        "The last message makes several calls at once, without results. GPT-OSS waits for the result of each call.",
        "Add the results, or drop such rows.",
        UNUSABLE,
    ),
    ProblemKind(
        "duplicate_tool",
        "error",
        "Two tools of a row have the same name. The served API refuses such a request.",
        "Rename or remove one of them.",
    ),
    ProblemKind(
        "too_many_tools",
        "error",
        "The row declares more tools than the served API accepts.",
        "Remove tools from the row.",
    ),
    ProblemKind(
        "missing_argument",
        "warning",
        "A call leaves out an argument that its tool's schema requires.",
        "Add the argument, or correct `required` in the schema.",
    ),
    ProblemKind(
        "no_trained_turn",
        "warning",
        "Every assistant message of the row has weight 0, so that nothing is learnt from it.",
        "Remove the row, or correct the weights.",
    ),
    ProblemKind(
        "nothing_to_learn",
        "error",
        "No row of the training data has an assistant message with loss.",
        "Correct the weights: 0 excludes a message from the loss.",
        (),
    ),
    ProblemKind(
        "duplicate",
        "warning",
        "The row equals an earlier one.",
        "Remove it, or set `duplicate: drop`.",
    ),
    ProblemKind(
        "near_duplicate",
        "warning",
        "The row equals an earlier one except for case, spaces and punctuation.",
        "Remove one of them, or set `near_duplicate: drop`.",
    ),
    ProblemKind(
        "conflicting_answers",
        "warning",
        "The same question has another answer in an earlier row, or an earlier pair ranks the same two answers the "
        "other way.",
        "Keep the right answer, unless several answers are intended.",
    ),
    ProblemKind(
        "leakage",
        "error",
        "A held-out row equals a training row, so that a result on it means nothing.",
        "Remove one of them, or set `leakage: drop` to leave out the held-out row.",
    ),
    ProblemKind(
        "control_character",
        "warning",
        "A text has a character such as NUL or U+FFFD, usually from a broken conversion.",
        "Remove the character.",
    ),
    ProblemKind(
        "special_token_text",
        "note",
        "A text spells a token such as `<|end|>`. It is trained as plain text, never as the special token.",
        "Remove it if it comes from another tool's template.",
    ),
    ProblemKind(
        "very_long",
        "warning",
        "The row has more characters than the context of GPT-OSS can usually hold.",
        "Shorten or split it.",
    ),
    ProblemKind(
        "too_long",
        "error",
        "The row has more tokens than `--max-length`. In a run, `data.too_long` decides about such rows.",
        "Shorten it, raise `data.max_length`, or train with `data.too_long: drop`.",
        (),
    ),
)

PROBLEMS: dict[str, ProblemKind] = {kind.name: kind for kind in _KINDS}
"""Every kind of problem by its name, in the order in which a row is checked."""
