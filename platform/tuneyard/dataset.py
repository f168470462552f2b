"""Chat files -> validated ChatExamples, every problem with file and line."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from tuneyard.chat import ChatExample, message_order_problem
from tuneyard.errors import DatasetError

MAX_SHOWN_PROBLEMS = 20


@dataclass(frozen=True, slots=True)
class ChatDataset:
    """The examples of one file, in its order. `fingerprint` is sha256 over what was read, not over the bytes."""

    path: Path
    examples: list[ChatExample]
    fingerprint: str


def load_chat_dataset(path: Path) -> ChatDataset:
    """The examples of an OpenAI chat JSONL file.

    Raises DatasetError that lists every broken row as `file:line`, what was found and the fix.
    """
    path = Path(path)
    examples: list[ChatExample] = []
    problems: list[str] = []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            examples.append(parse_chat_row(line, where))
        except DatasetError as e:
            problems.append(str(e))
    if problems:
        raise DatasetError(_listed(path, problems))
    if not examples:
        raise DatasetError(f"{path}: holds no rows. Expected one JSON object with `messages` per line.")
    return ChatDataset(path, examples, _fingerprint(examples))


def parse_chat_row(line: str, where: str) -> ChatExample:
    """One JSONL line as a ChatExample. Raises DatasetError that starts with `where`."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as e:
        raise DatasetError(f"{where}: not valid JSON at column {e.colno}: {e.msg}. One whole object per line.") from e
    except RecursionError as e:
        raise DatasetError(f"{where}: JSON nested too deeply to be a chat row.") from e
    if not isinstance(row, dict) or not isinstance(row.get("messages"), list):
        raise DatasetError(f"{where}: expected an object with a list `messages`, found {_short(row)}.")
    unknown = sorted(set(row) - {"messages", "metadata"})
    if unknown:
        raise DatasetError(f"{where}: unknown key {unknown[0]!r}. Known: messages, metadata.")
    try:
        example = ChatExample(messages=tuple(row["messages"]), metadata=row.get("metadata") or {}, source=where)
    except ValidationError as e:
        first = e.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{where}: {field}: {first['msg']} (found {_short(first['input'])}).") from e
    _check_messages(example, where)
    return example


def _check_messages(example: ChatExample, where: str) -> None:
    problem = message_order_problem([m.role for m in example.messages], for_completion=False)
    if problem:
        raise DatasetError(f"{where}: {problem}. Expected an optional system message, then user and assistant in turn.")
    for index, message in enumerate(example.messages, start=1):
        if not message.content.strip():
            raise DatasetError(f"{where}: message {index} ({message.role}) has empty content.")
        if message.reasoning_content is not None and message.role != "assistant":
            raise DatasetError(f"{where}: message {index} has reasoning_content, which only assistants have.")


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError as e:
        raise DatasetError(f"{path}: no such dataset file.") from e
    except OSError as e:
        raise DatasetError(f"{path}: cannot be read: {e.strerror}.") from e
    if not data.strip():
        raise DatasetError(f"{path}: the file is empty. Expected one JSON object with `messages` per line.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        line = data.count(b"\n", 0, e.start) + 1
        raise DatasetError(
            f"{path.name}:{line}: not UTF-8: byte 0x{data[e.start]:02x}. "
            f"Convert it: iconv -f latin1 -t utf-8 {path.name}"
        ) from e


def _listed(path: Path, problems: list[str]) -> str:
    head = f"{path}: {len(problems)} broken row{'s' if len(problems) > 1 else ''}"
    shown = problems[:MAX_SHOWN_PROBLEMS]
    rest = [f"… and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
    return "\n  ".join([head, *shown, *rest])


def _fingerprint(examples: list[ChatExample]) -> str:
    digest = hashlib.sha256()
    for example in examples:
        row = example.model_dump(mode="json", exclude={"source", "metadata"})
        digest.update(json.dumps(row, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
