"""RayJobRunner: each run is a Ray job `python -m jobs.finetune` on the cluster that this process is part of."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from serve_apps.platform_app.fine_tuning.execution.job_runner import RunReport
from serve_apps.platform_app.fine_tuning.records.states import RunState
from serve_apps.platform_app.store.object_ids import JOB
from tuneyard.cluster.job_client import job_client, job_message, own_job_server, submit_job
from tuneyard.cluster.job_entrypoint import CONFIG_VARIABLE
from tuneyard.cluster.job_environment import inherited_environment
from tuneyard.core.path_fields import ENV_PREFIX
from tuneyard.core.room_commands import FINETUNE

ARGUMENTS = f"-m {FINETUNE} --config {ENV_PREFIX}{CONFIG_VARIABLE}"

OWN_ERROR_CODE = 1
"""Exit code of a run that ended with an error of its own; see core.command.run_command. Any other one but 0 means that
its process was ended from outside."""

MAX_MESSAGE_CHARACTERS = 2000

_ERROR_LINE = re.compile(r"^error: ", re.MULTILINE)


class RayJobRunner:
    """See JobRunner. Runs get `variables` beside the environment variables of this process; they may be secrets."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    async def submit(self, run_id: str, config: str) -> None:
        """See JobRunner."""
        submitting = asyncio.ensure_future(asyncio.to_thread(_submit, run_id, config, self._variables))
        try:
            await asyncio.shield(submitting)
        except asyncio.CancelledError:
            await asyncio.wait([submitting])
            raise

    async def find(self, run_id: str) -> RunReport:
        """See JobRunner."""
        return await asyncio.to_thread(_find, run_id)

    async def stop(self, run_id: str) -> None:
        """See JobRunner."""
        await asyncio.to_thread(_stop, run_id)

    async def running(self) -> Mapping[str, RunState]:
        """See JobRunner."""
        return await asyncio.to_thread(_running)


def run_command(python: str, gcs_address: str) -> str:
    """The shell command of a run on the cluster with this address.

    The command names it itself: where several Rays run on one machine, Ray gives a job any of their addresses as
    RAY_ADDRESS (2.60, `_get_driver_env_vars`).
    """
    return f"RAY_ADDRESS={shlex.quote(gcs_address)} {shlex.quote(python)} {ARGUMENTS}"


def _submit(run_id: str, config: str, variables: Mapping[str, str]) -> None:
    import ray

    with job_client(own_job_server()) as client:
        environment = inherited_environment({**variables, CONFIG_VARIABLE: config})
        # Where the code is the node's, so is the Python, which may not be the first one on the PATH.
        python = "python" if "working_dir" in environment else sys.executable
        command = run_command(python, ray.get_runtime_context().gcs_address)
        metadata = {"run": run_id.rpartition("-")[0]}
        try:
            submit_job(client, command, environment, metadata, run_id)
        except RuntimeError:
            # Ray refuses an id that it has had, also that of a submission whose answer was lost.
            if _details(client, run_id) is None:
                raise


def _find(run_id: str) -> RunReport:
    with job_client(own_job_server()) as client:
        details = _details(client, run_id)
        if details is None:
            return RunReport(RunState.UNKNOWN)
        state = state_of(details)
        message = ""
        if state in (RunState.FAILED, RunState.INTERRUPTED):
            message = error_message(client.get_job_logs(run_id)) or job_message(details)
    return RunReport(state, message)


def _stop(run_id: str) -> None:
    with job_client(own_job_server()) as client:
        details = _details(client, run_id)
        if details is not None and not state_of(details).is_over:
            client.stop_job(run_id)


def _running() -> dict[str, RunState]:
    with job_client(own_job_server()) as client:
        jobs = [job for job in client.list_jobs() if (job.submission_id or "").startswith(JOB)]
    states = {str(job.submission_id): state_of(job) for job in jobs}
    return {run_id: state for run_id, state in states.items() if not state.is_over}


def _details(client: Any, run_id: str) -> Any:
    """Ray's details of a job; None if Ray does not know it."""
    try:
        return client.get_job_info(run_id)
    except RuntimeError:
        # Ray's error for an unknown job has no type of its own.
        if any(job.submission_id == run_id for job in client.list_jobs()):
            raise
        return None


def state_of(details: Any) -> RunState:
    """The state in Ray's details of a job."""
    match str(details.status):
        case "FAILED":
            has_own_error = details.driver_exit_code == OWN_ERROR_CODE
            return RunState.FAILED if has_own_error else RunState.INTERRUPTED
        case status:
            return RunState(status.lower())


def error_message(log: str) -> str:
    """The last message `error: …` of a run's log, without what the run wrote before it; "" if there is none."""
    found = list(_ERROR_LINE.finditer(log))
    return log[found[-1].end() :].strip()[:MAX_MESSAGE_CHARACTERS] if found else ""
