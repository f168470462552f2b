"""A job's log, printed while the job runs."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from tuneyard.cluster.job_client import DEFAULT_ADDRESS, job_message
from tuneyard.core.errors import ClusterError
from tuneyard.core.room_commands import PROGRESS_LINE, PROGRESS_PREFIX


def follow(client: Any, job: str) -> int:
    """Prints the job's log until the job ends. Returns an exit code: 0 if the job succeeded, else 1.

    Ctrl-C does not stop the job: it prints how to follow the log again, and raises KeyboardInterrupt. Raises
    ClusterError when the connection breaks.
    """
    import aiohttp

    url = client.get_address()
    address_option = "" if url == DEFAULT_ADDRESS else f" --address {url}"
    try:
        with LogPrinter(sys.stdout) as printer:
            asyncio.run(_tail(client, job, printer))
            # The stream also ends when a proxy in between closes the connection.
            while not client.get_job_status(job).is_terminal():
                time.sleep(1)
                asyncio.run(_tail(client, job, printer))
        info = client.get_job_info(job)
    except (ConnectionError, aiohttp.ClientError) as e:
        raise ClusterError(
            f"The connection to {url} broke while following {job}.\n"
            f"If only the connection broke, the job continues: tuneyard jobs logs -f {job}{address_option}\n"
            "If the head ended, so did the job: start the head again and submit the same config. A run with the same "
            "name continues from its checkpoints."
        ) from e
    except KeyboardInterrupt:
        print(
            f"\n[jobs] detached; {job} continues. Follow it again: tuneyard jobs logs -f {job}{address_option}\n"
            f"[jobs] Stop it: tuneyard jobs stop {job}{address_option}",
            flush=True,
        )
        raise
    if info.status == "SUCCEEDED":
        return 0
    print(f"[jobs] {job} {str(info.status).lower()}: {job_message(info)}", flush=True)
    return 1


async def _tail(client: Any, job: str, printer: LogPrinter) -> None:
    """Prints what the log holds beyond what the printer has received."""
    repeated = printer.received_characters
    async for text in client.tail_job_logs(job):
        # Every connection sends the log from its beginning.
        printer.write(text[repeated:])
        repeated = max(0, repeated - len(text))


class LogPrinter:
    """Context manager that prints a job's log. On a terminal, training lines become one progress bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._incomplete_line = ""
        self.received_characters = 0

    def __enter__(self) -> LogPrinter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._incomplete_line:
            self._print_line(self._incomplete_line)
        self._close_bar()

    def write(self, text: str) -> None:
        """Prints text as it arrives; it may begin and end within a line."""
        self.received_characters += len(text)
        if not self._stream.isatty():
            self._stream.write(text)
            self._stream.flush()
            return
        *lines, self._incomplete_line = (self._incomplete_line + text).split("\n")
        for line in lines:
            self._print_line(line)

    def _print_line(self, line: str) -> None:
        progress = PROGRESS_LINE.match(line)
        if progress is None:
            self._close_bar()
            print(line, file=self._stream, flush=True)
            return
        step = int(progress["step"])
        if self._bar is None:
            layout = "training {percentage:3.0f}% |{bar}| {n}/{total}  {postfix}"
            self._bar = tqdm(total=int(progress["total"]), initial=step, file=self._stream, bar_format=layout)
        self._bar.set_postfix_str(progress["rest"], refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def last_progress(log: str) -> str | None:
    """Returns the newest line of a log that reports training progress; None if there is none."""
    return next((line for line in reversed(log.splitlines()) if line.startswith(PROGRESS_PREFIX)), None)
