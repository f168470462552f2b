"""Seconds from `client.fine_tuning.jobs.create` to the first training step, against the same run as a bare Ray job.

Both run on one private Ray, as `python -m serve_apps.deploy` starts it, in alternation, on the tiny base. The bare job
has the config, the command and the environment of the API's job, and is submitted by Ray's own client. Each time is
divided into phases, which follow one another:

    create            the request to the API
    validating_files  until the event that the files are valid
    queued            until Ray has the job; of the bare job this is the submission
    driver            until the run's driver has started and imported its modules
    checks            until the driver has checked data and config, rendered the tokens, opened the registry, found Ray
    workers           until a worker process of Ray Train is there
    first_step        until the driver reports the first step
    event             until the client's stream of events has the first step's metrics

The first job of a deployment is measured too, and counts in no median: it starts the process that checks files.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJobEvent
from sqlalchemy import select

from serve_apps.platform_app.fine_tuning.execution.ray_job_runner import run_command
from serve_apps.platform_app.fine_tuning.records.tables import JOB_EVENTS, JOBS
from serve_apps.platform_app.store.platform_database import open_database
from tests.bench.bases import TINY, base
from tests.integration.failure_logs import SOCKET_OPTION, session_folders
from tests.integration.platform_server import BASE, PlatformServer, platform_server
from tests.integration.processes import Command
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.cluster.job_client import job_client, submit_job
from tuneyard.cluster.job_entrypoint import CONFIG_VARIABLE
from tuneyard.core.room_commands import PROGRESS_PREFIX
from tuneyard.storage.sql.database import SqlDatabase
from tuneyard.storage.sql.location import SqlLocation

ROUNDS = 3
CHATS = 24
SETTINGS: Any = {"n_epochs": 50, "batch_size": 4}
"""A run that is still training when its first step was seen, and is then stopped."""

LINES = {
    "driver": "[finetune] validating data and config",
    "checks": "[finetune] Ray: ",
    "first_step": f"{PROGRESS_PREFIX}step ",
}
"""Lines of a run's log that end a phase."""

WORKER = "RayTrainWorker"
POLL_S, DEADLINE_S = 0.1, 300.0

Marks = dict[str, float]
"""Unix time at the end of each phase, in order."""


def run() -> dict[str, Any]:
    """Medians of the phases in seconds, and the ratios of the API's job to the bare one, of each round."""
    with tempfile.TemporaryDirectory() as text, contextlib.ExitStack() as stack:
        server = stack.enter_context(platform_server(Path(text) / "served", base(TINY)))
        database = stack.enter_context(contextlib.closing(open_database(SqlLocation(file=server.home / "platform.db"))))
        client = server.client(server.create_key("bench"), timeout=300)
        lines = (CHECKOUT / "jobs" / "data" / "brindle_train.jsonl").read_bytes().splitlines(keepends=True)
        file = client.files.create(file=("chats.jsonl", b"".join(lines[:CHATS])), purpose="fine-tune").id
        first, config = measure_api(server, database, client, file)
        measure_bare(server, config, "first")
        api, bare = [], []
        for number in range(ROUNDS):
            phases, config = measure_api(server, database, client, file)
            api.append(phases)
            bare.append(measure_bare(server, config, f"bare-{number}"))
    starts = [sum(phases.values()) for phases in bare]
    steps = [sum(phases.values()) - phases["event"] for phases in api]
    return {
        "rounds": ROUNDS,
        "create_to_first_step_s": statistics.median(steps),
        "create_to_first_event_s": statistics.median(sum(phases.values()) for phases in api),
        "bare_submit_to_first_step_s": statistics.median(starts),
        "ratio_first_step": [ours / theirs for ours, theirs in zip(steps, starts, strict=True)],
        "ratio_first_event": [sum(ours.values()) / theirs for ours, theirs in zip(api, starts, strict=True)],
        "api_phases_s": _medians(api),
        "bare_phases_s": _medians(bare),
        "first_job_of_a_deployment_s": first,
    }


def measure_api(
    server: PlatformServer, database: SqlDatabase, client: openai.OpenAI, file: str
) -> tuple[dict[str, float], str]:
    """The phases of a job of the API, and the JSON of its run's config. The job is cancelled, and has ended then."""
    began = time.time()
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file, hyperparameters=SETTINGS)
    created = time.time()
    with ThreadPoolExecutor(1) as threads:
        event = threads.submit(_first_metrics, client, job.id)
        watched = watch_run(server.command, f"{job.id}-1")
        told = event.result()
    client.fine_tuning.jobs.cancel(job.id)
    with database.reading() as connection:
        events = select(JOB_EVENTS.c.created_at).where(
            JOB_EVENTS.c.job_id == job.id, JOB_EVENTS.c.message.startswith("Files validated")
        )
        validated = connection.execute(events).scalar_one()
        config: str = connection.execute(select(JOBS.c.config).where(JOBS.c.id == job.id)).scalar_one()
    queued = _submitted_at(server.command, f"{job.id}-1")
    _wait(lambda: _has_ended(database, job.id), "the end of a cancelled job")
    marks = {"create": created, "validating_files": validated, "queued": queued} | watched | {"event": told}
    return _phases(began, marks), config


def measure_bare(server: PlatformServer, config: str, name: str) -> dict[str, float]:
    """The phases of a run with this config as a Ray job, without the API. The job is stopped, and has ended then."""
    fields = json.loads(config)
    fields["run"] |= {"name": name, "model_name": name, "storage": str(server.home / "bare" / name)}
    environment = {
        "TUNEYARD_HOME": str(server.home),
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'platform'}",
        CONFIG_VARIABLE: json.dumps(fields),
    }
    gcs_address, url = _ray_addresses(server.command)
    began = time.time()
    with job_client(url) as ray_jobs:
        command = run_command(sys.executable, gcs_address)
        submit_job(ray_jobs, command, {"env_vars": environment}, {"run": name}, name)
        watched = watch_run(server.command, name)
        queued = _submitted_at(server.command, name)
        ray_jobs.stop_job(name)
        _wait(lambda: ray_jobs.get_job_status(name).is_terminal(), "the end of a stopped job")
    return _phases(began, {"queued": queued} | watched)


def watch_run(command: Command, run_id: str) -> Marks:
    """Waits for the first step of a run, and returns when it and the phases before it were seen."""
    (session,) = session_folders(command.descendants(SOCKET_OPTION))
    log = session / "logs" / f"job-driver-{run_id}.log"
    earlier = {process.pid for process in command.descendants(WORKER)}
    marks: Marks = {}

    def is_training() -> bool:
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        if "\nerror: " in f"\n{text}":
            raise RuntimeError(text)
        now = time.time()
        marks.update({phase: now for phase, line in LINES.items() if phase not in marks and line in text})
        # Only then: a look at all processes takes CPU time.
        if "checks" in marks and "workers" not in marks:
            has_worker = any(process.pid not in earlier for process in command.descendants(WORKER))
            marks.update({"workers": now} if has_worker or "first_step" in marks else {})
        return "first_step" in marks

    _wait(is_training, "the first step")
    return {phase: marks[phase] for phase in ("driver", "checks", "workers", "first_step")}


def _first_metrics(client: openai.OpenAI, job: str) -> float:
    """When the job's stream of events has brought the first metrics, as Unix time."""
    stream: openai.Stream[FineTuningJobEvent] = client.get(
        f"/fine_tuning/jobs/{job}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )
    messages = []
    with stream:
        for event in stream:
            messages.append(event.message)
            if event.type == "metrics":
                return time.time()
    raise RuntimeError(f"{job} ended without a step: {messages}")


def _submitted_at(command: Command, run_id: str) -> float:
    """When Ray has taken the job, as Unix time."""
    with job_client(_ray_addresses(command)[1]) as client:
        return float(client.get_job_info(run_id).start_time) / 1000


def _ray_addresses(command: Command) -> tuple[str, str]:
    """The address of the command's Ray, and the URL of its job server."""
    (dashboard,) = command.descendants("dashboard/dashboard.py")
    options = dict(word.split("=", 1) for word in dashboard.cmdline() if word.startswith("--") and "=" in word)
    return options["--gcs-address"], f"http://{options['--host']}:{options['--port']}"


def _has_ended(database: SqlDatabase, job: str) -> bool:
    with database.reading() as connection:
        return connection.execute(select(JOBS.c.execution).where(JOBS.c.id == job)).scalar_one() == "done"


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come in {DEADLINE_S:g} s")
        time.sleep(POLL_S)


def _phases(began: float, marks: Marks) -> dict[str, float]:
    """The seconds of each phase."""
    ends = [began, *marks.values()]
    return {name: end - start for name, (start, end) in zip(marks, itertools.pairwise(ends), strict=True)}


def _medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    return {name: statistics.median(phases[name] for phases in rounds) for name in rounds[0]}
