"""The tracking process: a program that sends what it reads to Weights & Biases, and ends with its driver.

It has a process group of its own, and takes the group with it when the server does not answer in time.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jobs.runs.tracking.messages import StartMessage
    from jobs.runs.tracking.tracked_run import TrackedRun

FINISH_TIMEOUT_S = 20.0
"""Seconds in which the server must have taken everything when the run has ended."""


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.runs.tracking.wandb_process",
        description="Started by a finetuning run: reads its metrics from standard input and sends them to W&B.",
    )
    parser.parse_args(argv)
    _serve()
    return 0


def _serve() -> None:
    """Serves the run of standard input. Notices go to standard output, which nothing else may write to."""
    from jobs.runs.tracking.messages import Notice
    from jobs.runs.tracking.tracked_run import serve_run
    from tuneyard.configs.experiment_tracking import API_KEY_VARIABLE

    notices = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    secret = os.environ.get(API_KEY_VARIABLE)

    def notify(notice: Notice) -> None:
        text = notice.text.replace(secret, "(set)") if secret else notice.text
        notices.write(notice.model_copy(update={"text": text}).as_line())
        notices.flush()

    def give_up() -> None:
        notify(Notice(kind="warning", text=f"it did not take everything in {FINISH_TIMEOUT_S:g} s"))
        os.killpg(os.getpgid(0), signal.SIGKILL)

    def limit_time() -> None:
        timer = threading.Timer(FINISH_TIMEOUT_S, give_up)
        timer.daemon = True
        timer.start()

    serve_run(sys.stdin, _open_run, notify, limit_time)


def _open_run(start: StartMessage) -> TrackedRun:
    # Only now, so that a broken package is a notice.
    from jobs.runs.tracking.wandb_run import WandbRun

    return WandbRun(start)


if __name__ == "__main__":
    sys.exit(main())
