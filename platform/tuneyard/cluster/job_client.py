"""Ray's job server: its address, clients that send the cluster's token, and the jobs that it knows."""

from __future__ import annotations

import argparse
import logging
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tuneyard.cluster.auth_token import DEFAULT_FILE, token_source, use_token_if_present
from tuneyard.cluster.job_secrets import pack_secrets
from tuneyard.core.errors import ClusterError, ConfigError
from tuneyard.core.wording import first_of

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
AGENT_START_TIMEOUT_S = 60.0
"""Seconds that a job waits for the agents of a cluster that is starting."""

MAX_NODES = 10_000
"""The longest list that Ray's state API returns."""

MAX_RUNS_SHOWN = 20


def add_address_option(parser: argparse.ArgumentParser) -> None:
    """Adds --address to a command that talks to the job server."""
    parser.add_argument(
        "--address",
        metavar="URL",
        help=f"URL of the cluster's Ray dashboard (default: RAY_API_SERVER_ADDRESS, else {DEFAULT_ADDRESS})",
    )


def job_server(address: str | None) -> str:
    """Returns the given address, else RAY_API_SERVER_ADDRESS, else the default. Raises ConfigError if it is no URL."""
    url = address or os.environ.get("RAY_API_SERVER_ADDRESS") or DEFAULT_ADDRESS
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"--address {url}: expected the dashboard's URL, like {DEFAULT_ADDRESS}")
    return url


def own_job_server() -> str:
    """The URL of the job server of the cluster that this process is part of. Raises ClusterError if there is none."""
    import ray
    from ray.dashboard.utils import ray_address_to_api_server_url

    try:
        return str(ray_address_to_api_server_url(ray.get_runtime_context().gcs_address))
    except (ValueError, RuntimeError, ConnectionError) as e:
        raise ClusterError(
            f"This Ray cluster has no job server, which runs the fine-tuning jobs: {e}. Start its head with the "
            "dashboard."
        ) from e


@contextmanager
def job_client(address: str | None) -> Iterator[Any]:
    """Yields Ray's JobSubmissionClient. Errors of the client within the context become ClusterError."""
    with _job_server_errors(address) as url:
        from ray.job_submission import JobSubmissionClient

        yield JobSubmissionClient(url)


@contextmanager
def serve_client(address: str | None) -> Iterator[Any]:
    """Yields Ray Serve's client of the same server. Errors of the client within the context become ClusterError."""
    with _job_server_errors(address) as url:
        from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

        yield ServeSubmissionClient(url)


@contextmanager
def _job_server_errors(address: str | None) -> Iterator[str]:
    """Yields the server's URL, with the token in use; translates its errors into ClusterError."""
    use_token_if_present()
    import aiohttp
    from ray.dashboard.modules import dashboard_sdk
    from ray.dashboard.modules.job import sdk
    from ray.exceptions import AuthenticationError
    from ray.util.state.exception import RayStateApiException, ServerUnavailable

    # At INFO they log every file that git ignores, and each connection.
    for name in ("ray", dashboard_sdk.__name__, sdk.__name__):
        logging.getLogger(name).setLevel(logging.ERROR)
    url = job_server(address)
    # Ray's client prefers RAY_API_SERVER_ADDRESS and RAY_ADDRESS to the address that it is given.
    os.environ["RAY_API_SERVER_ADDRESS"] = url
    try:
        _check_listening(url)
        yield url
    except AuthenticationError as e:
        raise ClusterError(
            f"Ray's job server at {url} requires the cluster's token, and this machine's token is from: "
            f"{token_source()}. Set RAY_AUTH_TOKEN, or write the token into {DEFAULT_FILE}; on the head, "
            "`ray get-auth-token` prints it."
        ) from e
    except (ConnectionError, aiohttp.ClientError, RayStateApiException, ServerUnavailable) as e:
        raise ClusterError(
            f"Ray's job server at {url}: {e}\nGive its dashboard's address with --address or RAY_API_SERVER_ADDRESS."
        ) from e
    except RuntimeError as e:
        raise ClusterError(f"Ray's job server at {url}: {e}\n`tuneyard jobs list` shows the jobs that it knows.") from e


def _check_listening(url: str) -> None:
    """Raises ConnectionError when no server listens. Without this check Ray's client would report a missing token."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname or "", port), timeout=10).close()
    except OSError as e:
        raise ConnectionError(f"no server listens there ({e.strerror or e}).") from e


def submit_job(
    client: Any, command: str, environment: Mapping[str, Any], metadata: Mapping[str, str], job_id: str | None = None
) -> str:
    """Submits a job and returns its id. Retries for AGENT_START_TIMEOUT_S while the cluster is starting.

    `job_id` is an id for the job; Ray refuses one that it has had before. Secret variables of `environment` reach the
    job outside of what Ray shows of it (see pack_secrets).
    """
    from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

    attempts = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, RuntimeError) and "No available agent" in str(e)),
        stop=stop_after_delay(AGENT_START_TIMEOUT_S),
        wait=wait_fixed(1),
        reraise=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        packed = pack_secrets(environment, Path(folder))
        options = {"runtime_env": packed, "metadata": dict(metadata), "submission_id": job_id}
        job: str = attempts(client.submit_job, entrypoint=command, **options)
    return job


def list_node_resources(client: Any) -> list[dict[str, float]]:
    """Returns the total resources of each living node by Ray's resource names; memory is in bytes."""
    from ray.util.state import list_nodes

    alive = [("state", "=", "ALIVE")]
    nodes = list_nodes(address=client.get_address(), filters=alive, limit=MAX_NODES, raise_on_missing_output=False)
    return [dict(node.resources_total) for node in nodes]


def find_job(client: Any, name: str) -> Any:
    """Returns Ray's details of the job with that id, or of the newest job of the run with that name.

    Raises ClusterError when there is none.
    """
    jobs = [job for job in client.list_jobs() if job.submission_id]
    matches = [job for job in jobs if name in (job.submission_id, run_name(job))]
    if matches:
        return max(matches, key=lambda job: job.start_time or 0)
    runs = sorted({run for job in jobs if (run := run_name(job))})
    raise ClusterError(
        f"This cluster has no job and no run {name!r}. Its runs: {first_of(runs, MAX_RUNS_SHOWN)}. A restarted cluster "
        "does not know its earlier jobs: submit the config again, and the run continues from its checkpoints."
    )


def run_name(job: Any) -> str:
    """Returns the name of the job's finetuning run; empty for other jobs."""
    return str((job.metadata or {}).get("run", ""))


def job_message(job: Any) -> str:
    """Returns Ray's message about the job, without the log lines that Ray appends."""
    return str(job.message or "").split(", last available logs")[0]
