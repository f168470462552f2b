"""MultipartForm: parses a multipart/form-data body with one file as it arrives, and holds none of the file."""

from __future__ import annotations

from collections.abc import Collection

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from tuneyard.core.errors import RequestError

MAX_FIELDS = 16
"""Parts of a form besides the file."""

MAX_FIELD_BYTES = 4096
MAX_HEADERS = 8
"""Headers of one part."""

MAX_HEADER_BYTES = 4096


class MultipartForm:
    """The form in a body with this Content-Type; its file is in the part `file_field`, its other parts are `fields`.

    Everything raises RequestError for a body that is no such form, names the part at fault, and refuses parts that are
    not known: no parameter is ever ignored.
    """

    def __init__(self, content_type: str, file_field: str, fields: Collection[str] = ()) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
        if not boundary:
            raise _broken("its Content-Type has no boundary")
        self.values: dict[str, str] = {}
        """The text of each field that has arrived whole."""
        self.filename: str | None = None
        """The file's name as the client gave it; None until its part has begun, or if it has none."""
        self._file_field = file_field
        self._fields = fields
        self._has_file = self._is_in_file = self._has_ended = False
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        self._blocks: list[bytes] = []
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_part_data": self._add_data,
                    "on_part_end": self._end_part,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_end": self._end,
                },
                max_header_count=MAX_HEADERS,
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as e:
            raise _broken(str(e)) from e

    def feed(self, data: bytes) -> list[bytes]:
        """The file's bytes in the next bytes of the body. What follows the form's end is skipped."""
        if self._has_ended:
            return []
        try:
            self._parser.write(data)
        except FormParserError as e:
            raise _broken(str(e)) from e
        blocks, self._blocks = self._blocks, []
        return blocks

    def check_complete(self) -> None:
        """Raises RequestError if the body has ended before the form, or the form has no file."""
        if not self._has_ended:
            raise _broken("it ends in the middle of a part")
        if not self._has_file:
            raise RequestError(
                f"Missing required parameter: {self._file_field!r}.",
                param=self._file_field,
                code="missing_required_parameter",
            )

    def _begin_part(self) -> None:
        self._disposition = b""
        self._text.clear()

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if bytes(self._header_name).lower() == b"content-disposition":
            self._disposition = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        kind, options = parse_options_header(self._disposition)
        name = options.get(b"name")
        if kind != b"form-data" or name is None:
            raise _broken("a part has no name in its Content-Disposition")
        self._name = name.decode("utf-8", "replace")[:200]
        self._is_in_file = self._name == self._file_field
        is_repeated = self._has_file if self._is_in_file else self._name in self.values
        if is_repeated:
            raise RequestError(f"The form has {self._name!r} twice.", param=self._name, code="invalid_value")
        if self._is_in_file:
            self._has_file = True
            filename = options.get(b"filename")
            self.filename = filename.decode("utf-8", "replace") if filename is not None else None
        elif self._name not in self._fields or len(self.values) == MAX_FIELDS:
            raise RequestError(f"Unknown parameter: {self._name!r}.", param=self._name, code="unknown_parameter")

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_in_file:
            self._blocks.append(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise RequestError(
                f"{self._name!r} has more than {MAX_FIELD_BYTES:,} bytes.", param=self._name, code="limit_exceeded"
            )

    def _end_part(self) -> None:
        if not self._is_in_file:
            try:
                self.values[self._name] = self._text.decode()
            except UnicodeDecodeError as e:
                raise RequestError(f"{self._name!r} is not UTF-8.", param=self._name, code="invalid_value") from e
        self._is_in_file = False

    def _end(self) -> None:
        self._has_ended = True


def _broken(reason: str) -> RequestError:
    return RequestError(f"The request body is not a valid multipart/form-data form: {reason}.", code="invalid_form")
