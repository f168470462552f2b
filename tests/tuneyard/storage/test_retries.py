"""Retries: which errors are retried, and which exception reaches the caller."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tuneyard.core.errors import StorageError, StorageFullError
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.retries import with_retries

DELAYS_S = (0.001, 0.001)


def failing_request(*errors: Exception) -> tuple[Callable[[], str], list[Exception]]:
    """A request that raises the errors one after another and then succeeds; and the errors that are left."""
    left = list(errors)

    def request() -> str:
        if left:
            raise left.pop(0)
        return "content"

    return request, left


def test_a_store_that_comes_back_costs_only_time() -> None:
    request, _ = failing_request(OSError("NETWORK_CONNECTION"), pa.ArrowException("timeout"))
    assert with_retries("s3://bucket/x", request, DELAYS_S) == "content"


def test_the_last_error_is_explained() -> None:
    request, left = failing_request(*[OSError("AWS Error NETWORK_CONNECTION")] * 4)
    with pytest.raises(StorageError, match=r"^s3://bucket/x: the object store reports: .*NETWORK_CONNECTION") as caught:
        with_retries("s3://bucket/x", request, DELAYS_S)
    assert "Check that the store is running" in str(caught.value)
    assert len(left) == 1, "one try and two retries"


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (FileNotFoundError("no such key"), FileNotFoundError, "no such key"),
        (pa.ArrowInvalid("Cannot parse URI"), pa.ArrowInvalid, "Cannot parse URI"),
        (pa.ArrowNotImplementedError("scheme s4"), pa.ArrowNotImplementedError, "scheme s4"),
        (OSError("AWS Error ACCESS_DENIED"), StorageError, "Credentials come from AWS_ACCESS_KEY_ID"),
        (OSError("AWS Error NO_SUCH_BUCKET"), StorageError, "NO_SUCH_BUCKET"),
        (OSError(errno.ENOSPC, "No space left"), StorageFullError, r"^s3://bucket/x: the disk of this machine"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
    ],
)
def test_errors_that_a_retry_cannot_solve_are_raised_at_once(
    error: Exception, expected: type[Exception], message: str
) -> None:
    request, left = failing_request(error, error)
    with pytest.raises(expected, match=message):
        with_retries("s3://bucket/x", request, DELAYS_S)
    assert len(left) == 1


def test_a_mounted_disk_is_never_retried(tmp_path: Path) -> None:
    request, left = failing_request(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageError, match=r"^x: Input/output error"):
        StorageFolder.open(str(tmp_path)).with_retries("x", request)
    assert left == []
    full, _ = failing_request(OSError(errno.EDQUOT, "Quota exceeded"))
    with pytest.raises(StorageFullError):
        StorageFolder.open(str(tmp_path)).with_retries("x", full)
