"""Reads the JSON body of a request, within the limits of size, time and content."""

from __future__ import annotations

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import Request

from serve_apps.http_front.body_limits import check_content
from serve_apps.tracing.span import current_span
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import BodyTimeoutError, BodyTooLargeError, RequestError

INLINE_BYTES = 16_384
"""Bodies up to this size are decoded at once; it takes less than a millisecond."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")

_DECODER = ThreadPoolExecutor(1, thread_name_prefix="json-decoder")
"""Decodes larger bodies. One thread, because decoding holds the interpreter lock: the event loop never waits for more
than one body."""


async def read_json(request: Request, limits: HttpLimits) -> Any:
    """The decoded body. Its size in bytes is kept in `request.state.body_bytes`.

    Raises BodyTooLargeError as soon as `limits.body_bytes` are exceeded, BodyTimeoutError if the body is not complete
    in time, RequestError for other content than JSON or for content beyond the limits.
    """
    with current_span().start("read body"):
        data = await _read_body(request, limits)
    request.state.body_bytes = len(data)
    if len(data) <= INLINE_BYTES:
        return decode_body(data, limits)
    content = await asyncio.get_running_loop().run_in_executor(_DECODER, decode_body, data, limits)
    await request.app.state.large_bodies.wait()
    return content


def decode_body(data: bytes, limits: HttpLimits) -> Any:
    """The content of a JSON body. Raises RequestError for other content than JSON or content beyond the limits."""
    content = decode_json(data, limits)
    check_content(content, limits)
    return content


def decode_json(data: bytes, limits: HttpLimits) -> Any:
    """A JSON value of any meaning. Raises RequestError for other content than JSON, or for too many values in it."""
    _check_size(data, limits)
    try:
        content = json.loads(data, parse_constant=_refuse_constant)
        if _SURROGATE.search(data):
            # Half of a surrogate pair is valid JSON, but cannot be encoded as text.
            json.dumps(content, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise RequestError(f"The request body is not valid JSON: {e}.", code="invalid_json") from e
    return content


async def _read_body(request: Request, limits: HttpLimits) -> bytes:
    data = bytearray()
    deadline = asyncio.timeout(limits.body_timeout_s)
    try:
        async with deadline:
            async for part in request.stream():
                data += part
                if len(data) > limits.body_bytes:
                    raise BodyTooLargeError(
                        f"The request body is larger than {limits.body_bytes:,} bytes (http.limits.body_bytes).",
                        code="body_too_large",
                    )
    except TimeoutError as e:
        if not deadline.expired():
            raise
        raise BodyTimeoutError(
            f"Of the request's body, {len(data):,} bytes had arrived after {limits.body_timeout_s:g} s "
            "(http.limits.body_timeout_s). Send the whole body without a pause.",
            code="body_timeout",
        ) from e
    return bytes(data)


_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
"""A JSON string. One without an end matches up to the end of the body: to search it again from each later quote would
take time that is quadratic in the body."""


def _check_size(data: bytes, limits: HttpLimits) -> None:
    """Raises RequestError for too many JSON values, before they are decoded: each takes many times its bytes in memory.

    Takes time that is linear in the body, for any bytes. An empty array or object counts as two values.
    """
    # First with the text in it, which is faster and finds no fewer; most requests pass.
    for without_text in (False, True):
        bare = _TEXT.sub(b"", data) if without_text else data
        containers = bare.count(b"[") + bare.count(b"{")
        values = bare.count(b",") + containers + 1
        if containers <= limits.json_containers and values <= limits.json_values:
            return
    name, count, noun = (
        ("json_containers", containers, "arrays and objects")
        if containers > limits.json_containers
        else ("json_values", values, "values")
    )
    raise RequestError(
        f"The request's JSON has {count:,} {noun}; the number must be at most {getattr(limits, name):,} "
        f"(http.limits.{name}).",
        code="limit_exceeded",
    )


def _refuse_constant(name: str) -> None:
    """Raises ValueError for NaN and Infinity, which Python's decoder accepts by default."""
    raise ValueError(f"{name} is not a JSON number")
