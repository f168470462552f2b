"""What is wrong with the first rows of an uploaded file, found at a cost that does not grow with the file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from anyio import to_thread

from serve_apps.platform_app.files.incoming_bytes import IncomingBytes
from tuneyard.api.wire.platform_api.files import FilePurpose
from tuneyard.chats.row_reader import ChatRowReader
from tuneyard.core.errors import DatasetError, RequestError

CHECKED_BYTES = 2**20
"""Bytes at the beginning of a file whose rows are checked. What reads the file later checks every row."""

MAX_LINE_BYTES = 16 * 2**20
"""Bytes of one line. A longer one is refused at its upload, because who reads lines holds one in memory."""

MAX_DETAILS = 3
"""Rows with problems that are named."""


async def check_content(content: IncomingBytes, purpose: FilePurpose, filename: str) -> str | None:
    """What is wrong with the first rows of a file that has arrived whole. Raises RequestError if it is not JSONL."""
    head = await content.head(CHECKED_BYTES)
    is_whole = content.size <= CHECKED_BYTES
    longest_line = content.longest_line

    def check() -> str | None:
        check_lines(head, is_whole=is_whole, longest_line=longest_line)
        return find_row_problems(head, filename, is_whole=is_whole) if purpose == "fine-tune" else None

    return await to_thread.run_sync(check)


def check_lines(head: bytes, *, is_whole: bool, longest_line: int) -> None:
    """Raises RequestError unless each line is a JSON object. `is_whole`: whether `head` is the whole file."""
    lines = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    cut_line = b"" if is_whole else lines.pop()
    wrong = next((number for number, line in enumerate(lines, 1) if line.strip() and not _is_object(line)), None)
    if wrong is None and cut_line.strip() and not cut_line.lstrip().startswith(b"{"):
        wrong = len(lines) + 1
    if wrong is not None:
        raise RequestError(
            f"Invalid file format: it must be JSONL, where every line is a JSON object. Line {wrong} is none.",
            param="file",
            code="invalid_file_format",
        )
    if longest_line > MAX_LINE_BYTES:
        raise RequestError(
            f"Invalid file format: a line has {longest_line:,} bytes; it must have at most {MAX_LINE_BYTES:,}. Every "
            "row must be a line of its own.",
            param="file",
            code="invalid_file_format",
        )
    if not head.strip() and is_whole:
        raise RequestError("The file is empty: it has no row.", param="file", code="empty_file")


def find_row_problems(head: bytes, filename: str, *, is_whole: bool) -> str | None:
    """The first problems with which no fine-tuning job would train on a row, as text; None if there are none."""
    problems: list[str] = []
    if not is_whole and b"\n" not in head:
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        # Without the line that the end of the head cuts.
        path.write_bytes(head if is_whole else head[: head.rfind(b"\n") + 1])
        reader = ChatRowReader(str(path), accepts_pairs=True)
        try:
            for row in reader:
                errors = [p for p in row.problems if reader.settings.severity_of(p.kind) == "error"]
                problems += [f"{filename}{p.where.removeprefix(path.name)}: {p.text}" for p in errors[:1]]
                if len(problems) == MAX_DETAILS:
                    break
        except DatasetError as e:
            problems.append(str(e).replace(str(path), filename))
    return "\n".join(problems) or None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
