"""The states of a batch, and every change of them. No I/O: the store applies a change in one transaction.

    validating ─▶ in_progress ─▶ finalizing ─▶ completed | expired
        │ ╲            │              │
        ▼  ╲───────────┴──────────────┴─────▶ cancelling ─▶ cancelled
      failed

The order of work is the same in each: all requests get a result, then the files are written, then the batch ends. A
batch that expires or is cancelled gets its missing results at once: errors.
"""

from __future__ import annotations

from enum import StrEnum

from tuneyard.api.wire.platform_api.batches import BatchStatus


class Event(StrEnum):
    """What can happen to a batch."""

    ACCEPT = "accept"
    """The input file is valid."""
    REJECT = "reject"
    """The input file has errors, or cannot be read any more."""
    CANCEL = "cancel"
    """The client cancels the batch."""
    EXPIRE = "expire"
    """The completion window has ended."""
    RESOLVE = "resolve"
    """Each request has a result."""
    FINISH = "finish"
    """The files are written."""


ENDED: tuple[BatchStatus, ...] = ("failed", "completed", "expired", "cancelled")
"""Statuses that never change again."""

_CHANGES: dict[tuple[BatchStatus, Event], BatchStatus] = {
    ("validating", Event.ACCEPT): "in_progress",
    ("validating", Event.REJECT): "failed",
    ("validating", Event.CANCEL): "cancelling",
    ("in_progress", Event.REJECT): "failed",
    ("in_progress", Event.CANCEL): "cancelling",
    ("in_progress", Event.EXPIRE): "finalizing",
    ("in_progress", Event.RESOLVE): "finalizing",
    ("finalizing", Event.CANCEL): "cancelling",
    ("finalizing", Event.FINISH): "completed",
    ("cancelling", Event.FINISH): "cancelled",
}


def next_status(status: BatchStatus, event: Event, *, is_expired: bool = False) -> BatchStatus | None:
    """The status after the event; None if the event changes nothing.

    `is_expired`: whether the batch has expired before, which its end says.
    """
    following = _CHANGES.get((status, event))
    return "expired" if following == "completed" and is_expired else following
