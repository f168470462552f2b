"""TrackedRun: a run at a tracking service; and serve_run, which does what the driver's messages say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from jobs.runs.tracking.messages import MESSAGES, EndMessage, Notice, PointMessage, StartMessage

MAX_WARNING_CHARACTERS = 300

INTERRUPTED: Mapping[str, str | float] = {"state": "interrupted"}
"""Summary of a run whose driver was killed."""


class TrackedRun(Protocol):
    """A run at a tracking service. Points come in order; after an interruption a run repeats some steps. `finish` is
    called once, as the last. Each method may raise anything, and may wait for the service."""

    @property
    def url(self) -> str:
        """Where people see the run; or words that say where it is kept, if there is no such place."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Adds what was measured at an optimizer step."""

    def finish(self, summary: Mapping[str, str | float], *, succeeded: bool) -> None:
        """Sets the summary and the final state, and returns when the service has everything."""


def serve_run(
    lines: Iterable[str],
    open_run: Callable[[StartMessage], TrackedRun],
    notify: Callable[[Notice], None],
    before_finish: Callable[[], None],
) -> None:
    """Opens the run of the first line and does what the others say, until an EndMessage or the end of the lines.

    An error of the service becomes one Notice, and ends it. `before_finish` is called before the run is finished.
    """
    try:
        _serve(lines, open_run, notify, before_finish)
    except Exception as e:  # noqa: BLE001 - the service's package raises whatever it has
        reason = " ".join(str(e).split()) or type(e).__name__
        notify(Notice(kind="warning", text=reason[:MAX_WARNING_CHARACTERS]))


def _serve(
    lines: Iterable[str],
    open_run: Callable[[StartMessage], TrackedRun],
    notify: Callable[[Notice], None],
    before_finish: Callable[[], None],
) -> None:
    run: TrackedRun | None = None
    for line in lines:
        message = MESSAGES.validate_json(line)
        match message:
            case StartMessage():
                run = open_run(message)
                notify(Notice(kind="run", text=run.url))
            case PointMessage() if run is not None:
                run.log(message.step, message.metrics)
            case EndMessage() if run is not None:
                before_finish()
                run.finish(message.summary, succeeded=message.succeeded)
                return
            case _:
                raise ValueError(f"the first message is of the kind {message.kind!r}, and must be 'start'")
    if run is not None:
        before_finish()
        run.finish(INTERRUPTED, succeeded=False)
