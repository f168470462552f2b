"""Reads the JSON body of a request, up to a size limit."""

from __future__ import annotations

import json
from typing import Any

from fastapi import Request

from tuneyard.core.errors import BodyTooLargeError, RequestError

MAX_BODY_BYTES = 16 * 2**20


async def read_json(request: Request) -> Any:
    """The decoded body. Raises BodyTooLargeError as soon as MAX_BODY_BYTES are exceeded, RequestError for other
    content than JSON.
    """
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise BodyTooLargeError(f"The request body is larger than {MAX_BODY_BYTES // 2**20} MiB.")
    try:
        content = json.loads(bytes(data), parse_constant=_refuse_constant)
        if b"\\ud" in data.lower():
            # Half of a surrogate pair is valid JSON, but cannot be encoded as text.
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise RequestError(f"The request body is not valid JSON: {e}.", code="invalid_json") from e
    return content


def _refuse_constant(name: str) -> None:
    """Raises ValueError for NaN and Infinity, which Python's decoder accepts by default."""
    raise ValueError(f"{name} is not a JSON number")
