"""Converters of rows with columns for question and answer: Alpaca, Dolly, Orca, SQuAD, OpenThoughts, and others."""

from __future__ import annotations

from collections.abc import Callable
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
from tuneyard.chats.row_formats.message_fields import normalize_messages
from tuneyard.chats.row_formats.names import QUESTION_ANSWER_COLUMNS
from tuneyard.core.wording import short_repr

if TYPE_CHECKING:
    from tuneyard.chats.row_settings import RowSettings


def from_alpaca(row: dict[str, Any]) -> ChatRow:
    """Converts Alpaca's instruction, optional input and output; `history` holds pairs of question and answer."""
    messages: list[Any] = []
    for pair in [] if is_empty(row.get("history")) else take_list(row, "history"):
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            raise FormatProblem(f"`history` must hold pairs of question and answer, found {short_repr(pair)}")
        messages += pair_of(*pair)
    question = _with_context(row, "instruction", "input")
    messages += pair_of(question, take_text(row, "output"))
    return ChatRow(messages, used={"instruction", "input", "output", "history"} & row.keys())


def from_dolly(row: dict[str, Any]) -> ChatRow:
    """Converts Dolly's instruction, optional context and response."""
    question = _with_context(row, "instruction", "context")
    return ChatRow(
        pair_of(question, take_text(row, "response")), used={"instruction", "context", "response"} & row.keys()
    )


def _with_context(row: dict[str, Any], column: str, context: str) -> str:
    """The text of a column, then that of another one after a blank line if it holds something."""
    text = take_text(row, column)
    return text if is_empty(row.get(context)) else f"{text}\n\n{take_text(row, context)}"


def pair_of(question: Any, answer: Any) -> list[Any]:
    """A user message and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def from_columns(question: str, answer: str) -> Callable[[dict[str, Any]], ChatRow]:
    """A converter of rows with a column for the question and one for the answer."""
    return lambda row: ChatRow(pair_of(take_text(row, question), take_text(row, answer)), used={question, answer})


def from_question_answer(row: dict[str, Any]) -> ChatRow:
    """Converts the first pair of QUESTION_ANSWER_COLUMNS that the row has."""
    pair = next(((q, a) for q, a in QUESTION_ANSWER_COLUMNS if q in row and a in row), None)
    if pair is None:
        names = "; ".join(f"`{q}` and `{a}`" for q, a in QUESTION_ANSWER_COLUMNS)
        raise FormatProblem(f"expected one of these pairs of columns: {names}; found {short_repr(row)}")
    return from_columns(*pair)(row)


def from_openthoughts(row: dict[str, Any]) -> ChatRow:
    """Converts OpenThoughts' problem, reasoning and solution."""
    question, answer = pair_of(take_text(row, "problem"), take_text(row, "deepseek_solution"))
    answer["reasoning_content"] = take_text(row, "deepseek_reasoning")
    return ChatRow([question, answer], used={"problem", "deepseek_reasoning", "deepseek_solution"})


def from_prompt_completion(row: dict[str, Any]) -> ChatRow:
    """Converts `prompt` and `completion`; each is a text or a list of messages."""
    chat = ChatRow([], used={"prompt", "completion"})
    for column, role in (("prompt", "user"), ("completion", "assistant")):
        chat.messages += text_or_messages(row, column, role, chat.findings)
    return chat


def text_or_messages(row: dict[str, Any], column: str, role: str, findings: list[Finding]) -> list[Any]:
    """The messages of a column that holds a list of them, or a text by `role`."""
    if isinstance(row.get(column), list | tuple):
        return normalize_messages(list(row[column]), findings, column)
    return [{"role": role, "content": take_text(row, column)}]


def from_openai_evals(row: dict[str, Any]) -> ChatRow:
    """Converts the messages `input` and the answer `ideal`, or the first of several."""
    chat = ChatRow([], used={"input", "ideal"})
    chat.messages = text_or_messages(row | {"input": parse_if_json(row["input"])}, "input", "user", chat.findings)
    ideal = parse_if_json(row["ideal"])
    if isinstance(ideal, list) and ideal:
        if len(ideal) > 1:
            text = f"`ideal` holds {len(ideal)} answers; the first is trained on. Others: {short_repr(ideal[1:])}"
            chat.findings.append(Finding("unused_answer", text, "ideal"))
        ideal = ideal[0]
    chat.messages.append({"role": "assistant", "content": take_text({"ideal": ideal}, "ideal")})
    return chat


def from_nemotron(row: dict[str, Any]) -> ChatRow:
    """Converts the messages `input` and the answer `output` of Llama-Nemotron's post-training data."""
    chat = ChatRow([], used={"input", "output"})
    chat.messages = text_or_messages(row | {"input": parse_if_json(row["input"])}, "input", "user", chat.findings)
    chat.messages.append({"role": "assistant", "content": take_text(row, "output")})
    return chat


def from_squad(row: dict[str, Any], settings: RowSettings) -> ChatRow:
    """Converts SQuAD's context, question and first answer to NeMo's prompt `Context: … Question: … Answer:`.

    Source of the prompt: NeMo, nemo/collections/llm/gpt/data/squad.py. A question without answers is answered with
    `data.unanswerable_answer`; without that it raises FormatProblem.
    """
    answers = parse_if_json(row["answers"])
    texts = answers.get("text") if isinstance(answers, dict) else answers
    texts = [texts] if isinstance(texts, str) else texts
    findings: list[Finding] = []
    if is_empty(texts) and (answers is None or isinstance(answers, dict | list)):
        if settings.unanswerable_answer is None:
            raise FormatProblem(
                f"the question has no answer to train on: `answers` is {short_repr(answers)}. Drop such rows with "
                "data.problems.unanswerable=drop, or answer them with data.unanswerable_answer",
                "unanswerable",
            )
        texts = [settings.unanswerable_answer]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise FormatProblem(f"expected texts in `answers`, found {short_repr(row['answers'])}")
    if others := [text for text in texts[1:] if text != texts[0]]:
        text = f"`answers` holds {len(texts)} answers; the first is trained on. Others: {short_repr(others)}"
        findings.append(Finding("unused_answer", text, "answers"))
    if isinstance(answers, dict):
        known = {"text", "answer_start"}
        findings += [
            Finding("unknown_column", f"`answers.{key}` is not used: {short_repr(value)}", f"answers.{key}")
            for key, value in answers.items()
            if key not in known and not is_empty(value)
        ]
    question = f"Context: {take_text(row, 'context')} Question: {take_text(row, 'question')} Answer:"
    return ChatRow(pair_of(question, texts[0]), used={"context", "question", "answers"}, findings=findings)
