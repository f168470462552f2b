"""Ray's job server, as the commands use it: reached with the cluster's token, its jobs found and followed."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO
from urllib.parse import urlsplit

from tqdm import tqdm

from tuneyard.cluster.auth_token import DEFAULT_FILE, token_source, use_token_if_there
from tuneyard.core.errors import ClusterError, ConfigError
from tuneyard.core.room_commands import PROGRESS_LINE, PROGRESS_PREFIX

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
STARTING_S = 60.0
MAX_NODES = 10_000
"""The most that Ray's list gives."""


def job_server(address: str | None) -> str:
    """The given address, RAY_API_SERVER_ADDRESS, or the default. Raises ConfigError when it is no URL."""
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    if urlsplit(found).scheme not in ("http", "https"):
        raise ConfigError(f"--address {found}: expected the dashboard's URL, like {DEFAULT_ADDRESS}")
    return found


@contextmanager
def job_client(address: str | None) -> Iterator[Any]:
    """Ray's JobSubmissionClient; what goes wrong with it becomes a ClusterError."""
    with _reached(address) as where:
        from ray.job_submission import JobSubmissionClient

        yield JobSubmissionClient(where)


@contextmanager
def serve_client(address: str | None) -> Iterator[Any]:
    """Ray Serve's client over the same server, in the same way."""
    with _reached(address) as where:
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

        yield ServeSubmissionClient(where)


@contextmanager
def _reached(address: str | None) -> Iterator[str]:
    use_token_if_there()
    import aiohttp
    from ray.dashboard.modules import dashboard_sdk
    from ray.dashboard.modules.job import sdk
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException, ServerUnavailable

    # They name every file that git ignores, and each connection.
    for name in ("ray", dashboard_sdk.__name__, sdk.__name__):
        logging.getLogger(name).setLevel(logging.ERROR)
    where = job_server(address)
    # Ray's client lets RAY_API_SERVER_ADDRESS and RAY_ADDRESS win over the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = where
    try:
        _check_listening(where)
        yield where
    except AuthenticationError as e:
        raise ClusterError(
            f"Ray's job server at {where} wants the cluster's token. Set RAY_AUTH_TOKEN, or put it into "
            f"{DEFAULT_FILE} (found: {token_source()}); on the head, `ray get-auth-token` prints it."
        ) from e
    except (ConnectionError, aiohttp.ClientError, RayStateApiException, ServerUnavailable) as e:
        raise ClusterError(
            f"Ray's job server at {where}: {e}\nGive its dashboard's address with --address or RAY_API_SERVER_ADDRESS."
        ) from e
    except RuntimeError as e:
        raise ClusterError(
            f"Ray's job server at {where}: {e}\n`tuneyard jobs list` names the jobs that it knows."
        ) from e


def submit_job(client: Any, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    """The new job's id. Waits a while for a cluster that is just coming up."""
    deadline = time.monotonic() + STARTING_S
    while True:
        try:
            return str(client.submit_job(entrypoint=command, runtime_env=dict(environment), metadata=dict(metadata)))
        except RuntimeError as e:
            if "No available agent" not in str(e) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def _check_listening(url: str) -> None:
    """Raises ConnectionError: Ray's client would ask for a token first, whoever listens there."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as e:
        raise ConnectionError(f"nobody listens there ({e.strerror or e}).") from e


def nodes_of(client: Any) -> list[dict[str, float]]:
    """Total resources of each living node, memory in bytes, asked over HTTP."""
    from ray.util.state import list_nodes

    alive = [("state", "=", "ALIVE")]
    found = list_nodes(address=client.get_address(), filters=alive, limit=MAX_NODES, raise_on_missing_output=False)
    return [dict(node.resources_total) for node in found]


def find_job(client: Any, name: str) -> Any:
    """Ray's details of the job of that id, or of the newest job of a run of that name. Raises ClusterError."""
    jobs = [job for job in client.list_jobs() if job.submission_id]
    found = [job for job in jobs if name in (job.submission_id, run_of(job))]
    if found:
        return max(found, key=lambda job: job.start_time or 0)
    runs = sorted({run for job in jobs if (run := run_of(job))})
    raise ClusterError(
        f"No job and no run {name!r} on this cluster; its runs: {', '.join(runs) or 'none'}. A cluster that was "
        "started anew knows no old jobs: submit the config again, the run's name finds its checkpoints."
    )


def run_of(job: Any) -> str:
    """The name of the run that the job is of, or an empty string."""
    return str((job.metadata or {}).get("run", ""))


def reason_of(job: Any) -> str:
    """Ray's message about the job, without the log that it repeats."""
    return str(job.message or "").split(", last available logs")[0]


def follow(client: Any, job: str) -> int:
    """Prints the job's log as it grows until it ends. The exit code: 0 when the job succeeds.

    Ctrl-C leaves the job alone, says how to come back, and raises KeyboardInterrupt. Raises ClusterError when the
    connection breaks.
    """
    import aiohttp

    where = client.get_address()
    there = "" if where == DEFAULT_ADDRESS else f" --address {where}"
    try:
        with LogPrinter(sys.stdout) as printer:
            asyncio.run(_tail(client, job, printer))
            # It ends early too, when what stands between here and the head closes the connection.
            while not client.get_job_status(job).is_terminal():
                time.sleep(1)
                asyncio.run(_tail(client, job, printer))
        info = client.get_job_info(job)
    except (ConnectionError, aiohttp.ClientError) as e:
        raise ClusterError(
            f"The connection to {where} broke while {job} was followed.\n"
            f"If only that, the job goes on: tuneyard jobs logs -f {job}{there}\n"
            "If the head ended, the job did too: start the head again and submit the same config; the run's name finds "
            "its checkpoints."
        ) from e
    except KeyboardInterrupt:
        print(
            f"\n[jobs] detached; {job} goes on. Come back: tuneyard jobs logs -f {job}{there}\n"
            f"[jobs] End it: tuneyard jobs stop {job}{there}",
            flush=True,
        )
        raise
    if info.status == "SUCCEEDED":
        return 0
    print(f"[jobs] {job} {str(info.status).lower()}: {reason_of(info)}", flush=True)
    return 1


async def _tail(client: Any, job: str, printer: LogPrinter) -> None:
    again = printer.received
    async for text in client.tail_job_logs(job):
        # Each connection begins with the log's beginning.
        printer.write(text[again:])
        again = max(0, again - len(text))


class LogPrinter:
    """Context manager: prints a job's log. On a terminal its training lines become one progress bar."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._bar: tqdm[Any] | None = None
        self._rest = ""
        self.received = 0

    def __enter__(self) -> LogPrinter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest:
            self._print(self._rest)
        self._close_bar()

    def write(self, text: str) -> None:
        """Text as it arrives, lines cut anywhere."""
        self.received += len(text)
        if not self._stream.isatty():
            self._stream.write(text)
            self._stream.flush()
            return
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._print(line)

    def _print(self, line: str) -> None:
        found = PROGRESS_LINE.match(line)
        if found is None:
            self._close_bar()
            print(line, file=self._stream, flush=True)
            return
        step = int(found["step"])
        if self._bar is None:
            layout = "training {percentage:3.0f}% |{bar}| {n}/{total}  {postfix}"
            self._bar = tqdm(total=int(found["total"]), initial=step, file=self._stream, bar_format=layout)
        self._bar.set_postfix_str(found["rest"], refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def last_progress(log: str) -> str | None:
    """The newest line of a log that says how training stands, or None."""
    return next((line for line in reversed(log.splitlines()) if line.startswith(PROGRESS_PREFIX)), None)


def with_address(parser: argparse.ArgumentParser) -> None:
    """Adds --address."""
    parser.add_argument(
        "--address", metavar="URL", help=f"Ray's dashboard; default: RAY_API_SERVER_ADDRESS, else {DEFAULT_ADDRESS}"
    )
