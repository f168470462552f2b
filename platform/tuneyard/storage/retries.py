"""Retries of object store requests: which errors are retried, for how long, and the error after the last try."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import TypeVar

import pyarrow as pa
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_chain, wait_fixed

from tuneyard.core.errors import StorageError, StorageFullError

RETRY_DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds to wait before each retry: a store can be unreachable for half a minute."""

REFUSALS = ("ACCESS_DENIED", "SIGNATURE_DOES_NOT_MATCH", "INVALID_ACCESS_KEY_ID", "NO_SUCH_BUCKET", "To create buckets")
"""Texts in the message of an error that a retry cannot solve."""

UNKNOWN_LOCATION_ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError)
"""What pyarrow raises for a URI that it cannot parse or whose scheme it does not support."""

Result = TypeVar("Result")


def with_retries(subject: str, request: Callable[[], Result], delays_s: Sequence[float] = RETRY_DELAYS_S) -> Result:
    """The result of `request`, which is retried after each of `delays_s` while the store cannot be reached.

    Raises at once: FileNotFoundError and UNKNOWN_LOCATION_ERRORS unchanged, StorageFullError if a local disk is full,
    StorageError if the store refuses the request. Raises StorageError after the last retry. Messages begin with
    `subject`, the location that the request is for.
    """
    retrying = Retrying(
        retry=retry_if_exception(_is_transient),
        wait=wait_chain(*map(wait_fixed, delays_s)),
        stop=stop_after_attempt(len(delays_s) + 1),
        reraise=True,
    )
    try:
        return retrying(request)
    except (FileNotFoundError, *UNKNOWN_LOCATION_ERRORS):
        raise
    except (OSError, pa.ArrowException) as e:
        raise_if_disk_full(subject, e)
        raise StorageError(f"{subject}: the object store reports: {e}{_fix(e)}") from e


def raise_if_disk_full(subject: str, error: Exception) -> None:
    """Raises StorageFullError if the error says that a disk of this machine, or its quota, is full."""
    if _is_disk_full(error):
        raise StorageFullError(
            f"{subject}: the disk of this machine, or its quota, is full. Free space and start again."
        ) from error


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, (FileNotFoundError, *UNKNOWN_LOCATION_ERRORS)) or _is_disk_full(error):
        return False
    return isinstance(error, OSError | pa.ArrowException) and not any(text in str(error) for text in REFUSALS)


def _is_disk_full(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _fix(error: Exception) -> str:
    text = str(error)
    if "ACCESS_DENIED" in text or "SIGNATURE" in text or "ACCESS_KEY" in text:
        return "\nCredentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role."
    if "NETWORK_CONNECTION" in text:
        return (
            "\nCheck that the store is running and that its address is right: AWS_ENDPOINT_URL, or "
            "?endpoint_override= in the URI."
        )
    return ""
