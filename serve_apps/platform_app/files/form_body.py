"""Receives the body of an upload: admission, limits of number, size and time, and the file in the form."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

from fastapi import Request

from serve_apps.http_front.admission import authorization_header
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.files.multipart_form import MultipartForm
from serve_apps.tracing.span import current_span
from tuneyard.configs.http_limits import HttpLimits
from tuneyard.core.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    InsufficientStorageError,
    MediaTypeError,
    OverloadedError,
    StorageError,
    StorageFullError,
    StoreUnavailableError,
)

FORM_BYTES = 2**20
"""What a form may have beside the file."""

MIN_BYTES_PER_S = 16_384
"""The slowest an upload may be, on average, after the first http.limits.body_timeout_s."""


class UploadDoor:
    """Lets at most `max_concurrent` uploads of this process in at a time."""

    def __init__(self, gate: KeyGate, max_concurrent: int) -> None:
        self._gate = gate
        self._max_concurrent = max_concurrent
        self._running = 0

    @contextlib.asynccontextmanager
    async def admit(self, request: Request) -> AsyncIterator[str]:
        """The owner of an admitted request, which counts as running for its key within the context.

        Raises what KeyGate.admit raises, and OverloadedError; errors of the storage become errors for a client.
        """
        grant = await self._gate.admit(authorization_header(request))
        current_span().set("tuneyard.key.name", grant.key_name)
        try:
            if self._running >= self._max_concurrent:
                raise OverloadedError(
                    f"This server is receiving {self._running} files already (platform.max_concurrent_uploads). Retry "
                    f"after {OverloadedError.retry_after_s} s.",
                    code="overloaded",
                )
            self._running += 1
            try:
                with storage_errors_for_clients():
                    yield grant.owner
            finally:
                self._running -= 1
        finally:
            await grant.close()


@contextlib.contextmanager
def storage_errors_for_clients() -> Iterator[None]:
    """Raises errors of the storage as errors without paths and hosts; the log has them."""
    try:
        yield
    except StorageFullError as e:
        raise InsufficientStorageError(
            "The server's disk is full. Its administrator must free space.", code="storage_full"
        ) from e
    except StorageError as e:
        raise StoreUnavailableError(
            f"The storage of files cannot be read or written now. Retry after {StoreUnavailableError.retry_after_s} s.",
            code="storage_unavailable",
        ) from e


def declared_bytes(request: Request, max_bytes: float) -> int:
    """The bytes that the request announces for its body, 0 if it announces none.

    Raises BodyTooLargeError if the file in them is over `max_bytes`, and MediaTypeError for a compressed body.
    """
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise MediaTypeError(
            f"The request's Content-Encoding is {encoding[:100]!r}; send the file as it is.",
            code="unsupported_media_type",
        )
    text = request.headers.get("Content-Length", "0")
    declared = int(text) if text.isascii() and text.isdecimal() else 0
    if declared > max_bytes + FORM_BYTES:
        raise _too_large(max_bytes)
    return declared


async def file_blocks(
    request: Request, form: MultipartForm, max_bytes: float, limits: HttpLimits
) -> AsyncIterator[bytes]:
    """The bytes of the form's file, as they arrive. Then the form is complete.

    Raises BodyTooLargeError as soon as the file or the rest of the form is too large, BodyTimeoutError if the client
    pauses or is too slow, and what MultipartForm raises.
    """
    started_at = time.monotonic()
    received = size = 0
    stream = request.stream()
    while True:
        limit = asyncio.timeout(limits.body_timeout_s)
        try:
            async with limit:
                chunk = await anext(stream, None)
        except TimeoutError as e:
            if not limit.expired():
                raise
            raise _too_slow(received, time.monotonic() - started_at) from e
        if chunk is None:
            break
        received += len(chunk)
        for block in form.feed(chunk):
            size += len(block)
            if size > max_bytes:
                raise _too_large(max_bytes)
            yield block
        if received - size > FORM_BYTES:
            raise BodyTooLargeError(
                f"The form is larger than {FORM_BYTES:,} bytes without its file.", code="body_too_large"
            )
        elapsed = time.monotonic() - started_at
        if elapsed > limits.body_timeout_s + received / MIN_BYTES_PER_S:
            raise _too_slow(received, elapsed)
    form.check_complete()


def _too_large(max_bytes: float) -> BodyTooLargeError:
    return BodyTooLargeError(
        f"The file is larger than {int(max_bytes):,} bytes. Send a larger one in parts, by POST /v1/uploads.",
        code="file_too_large",
    )


def _too_slow(received: int, elapsed: float) -> BodyTimeoutError:
    return BodyTimeoutError(
        f"Of the request's body, {received:,} bytes had arrived after {elapsed:.0f} s. Send the whole body without a "
        f"pause, at {MIN_BYTES_PER_S:,} bytes per second or more; or send it in parts, by POST /v1/uploads.",
        code="body_timeout",
    )
