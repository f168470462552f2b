"""Input rows: the requests in a batch's input file, one per line, as OpenAI has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serve_apps.http_front.bodies import decode_json
from serve_apps.platform_app.batches.input.input_lines import InputLine
from tuneyard.api.wire.platform_api.batches import BatchError
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import RequestError

FIELDS = ("custom_id", "method", "url", "body")

MAX_CUSTOM_ID = 512
"""Characters of a custom_id."""

ENVELOPE_BYTES = 8192
"""Bytes of a line beside the request's body."""


@dataclass(frozen=True, slots=True)
class InputRow:
    """One request of a batch."""

    number: int
    """The number of its line in the file; the first is 1."""
    custom_id: str
    body: dict[str, Any]
    bytes: int
    """The length of the line."""

    @property
    def model(self) -> str:
        """The model that it names."""
        return str(self.body["model"])


class RowError(Exception):
    """What is wrong with a row; `error` says it in OpenAI's form."""

    def __init__(self, line: InputLine, code: str, message: str, param: str | None = None) -> None:
        super().__init__(line, code, message, param)
        self.error = BatchError(code=code, line=line.number, message=message, param=param)


def max_line_bytes(limits: HttpLimits) -> int:
    """Bytes of a line of the input file, at most."""
    return limits.body_bytes + ENVELOPE_BYTES


def parse_row(line: InputLine, endpoint: str, limits: HttpLimits) -> InputRow:
    """The request in a line. Its body is checked only where an error would concern the whole batch.

    Raises RowError.
    """
    row = _decode(line, limits)
    for name in FIELDS:
        if row.get(name) is None:
            raise RowError(line, "missing_required_parameter", f"Missing required parameter: {name!r}.", name)
    if unknown := sorted(row.keys() - set(FIELDS)):
        name = unknown[0][:100]
        raise RowError(
            line,
            "unknown_parameter",
            f"Unknown parameter: {name!r}. Only these are known: custom_id, method, url, body.",
            name,
        )
    custom_id, body = row["custom_id"], row["body"]
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_CUSTOM_ID:
        raise RowError(
            line,
            "invalid_value",
            f"Invalid value for 'custom_id': must be a string of 1 to {MAX_CUSTOM_ID} characters.",
            "custom_id",
        )
    if row["method"] != "POST":
        raise RowError(line, "invalid_method", "Invalid value for 'method': must be 'POST'.", "method")
    if row["url"] != endpoint:
        raise RowError(
            line, "mismatched_url", f"Invalid value for 'url': must be the batch's endpoint, {endpoint!r}.", "url"
        )
    _check_body(line, body)
    return InputRow(line.number, custom_id, body, len(line.content or b""))


def _decode(line: InputLine, limits: HttpLimits) -> dict[str, Any]:
    if line.content is None:
        raise RowError(
            line,
            "line_too_long",
            f"This line has more than {max_line_bytes(limits):,} bytes (http.limits.body_bytes, and "
            f"{ENVELOPE_BYTES:,} for the fields beside the body).",
        )
    try:
        row = decode_json(line.content, limits)
    except RequestError as e:
        if e.code == "limit_exceeded":
            raise RowError(line, "limit_exceeded", e.message) from e
        raise RowError(line, "invalid_json_line", "This line is not parseable as valid JSON.") from e
    if not isinstance(row, dict):
        raise RowError(line, "invalid_json_line", "This line is not a JSON object.")
    return row


def _check_body(line: InputLine, body: Any) -> None:
    if not isinstance(body, dict):
        raise RowError(line, "invalid_value", "Invalid value for 'body': must be an object.", "body")
    model = body.get("model")
    if model is None:
        raise RowError(line, "missing_required_parameter", "Missing required parameter: 'body.model'.", "body.model")
    if not isinstance(model, str) or not model:
        raise RowError(line, "invalid_value", "Invalid value for 'body.model': must be a string.", "body.model")
    if body.get("stream"):
        raise RowError(
            line,
            "invalid_value",
            "Invalid value for 'body.stream': answers of a batch are not streamed. Leave it out.",
            "body.stream",
        )
