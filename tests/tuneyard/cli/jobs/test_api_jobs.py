"""`tuneyard jobs … --api`: jobs of a fine-tuning API from the command line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from starlette.testclient import TestClient

from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import (
    BASE,
    NoDeployedModels,
    Work,
    base_options,
    chat_rows,
)
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.cli.jobs.api_jobs import ApiJobs
from tuneyard.cli.main import main
from tuneyard.core.errors import ClusterError
from tuneyard.storage.sql.location import SqlLocation

URL = "http://testserver/v1"


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[ApiJobs]:
    """The jobs of an API whose reconciler works in a thread."""
    cluster = ClusterInProcess()
    location = SqlLocation(file=tmp_path / "db")
    options = {"cluster": cluster.services, "directory": NoDeployedModels(), "max_active_jobs_per_key": None}
    with open_platform(location, tmp_path, **options, **base_options(tmp_path)) as platform:
        work, ended = Work(platform, cluster), threading.Event()

        async def reconcile() -> None:
            while not ended.is_set():
                await work.run(1)
                await asyncio.sleep(0.05)

        thread = threading.Thread(target=lambda: asyncio.run(reconcile()))
        thread.start()
        try:
            # Without its lifespan, which is that of a replica of Ray Serve.
            http = TestClient(platform.api, base_url="http://testserver")
            client = openai.OpenAI(api_key="none", base_url=URL, http_client=http, max_retries=0)
            with ApiJobs(URL, client) as api:
                yield api
        finally:
            ended.set()
            thread.join()


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(chat_rows(12))
    return path


def create(jobs: ApiJobs, chats: Path, **options: object) -> int:
    values = {"model": BASE, "method": "supervised", "epochs": 2, "suffix": "mine", "wait": True} | options
    return jobs.create(chats, None, **values)  # type: ignore[arg-type]


def test_a_job_is_created_and_followed(jobs: ApiJobs, chats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(jobs, chats) == 0
    lines = capsys.readouterr().out.splitlines()
    job = lines[0].split()[2].rstrip(";")
    assert any("Step 4/4: training loss=0.5" in line for line in lines)
    assert lines[-1].startswith(f"[jobs] {job} succeeded: ft:tiny:tuneyard:mine:")
    assert jobs.print_status(job) == 0
    assert "n_epochs=2" in capsys.readouterr().out
    jobs.print_list()
    assert job in capsys.readouterr().out
    assert jobs.print_events(job, follow=False) == 0
    assert "The job has successfully completed" in capsys.readouterr().out
    with pytest.raises(ClusterError, match="The job has succeeded and cannot be cancelled"), jobs:
        jobs.cancel(job)


def test_errors_are_those_of_the_api(jobs: ApiJobs, chats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ClusterError, match="cannot be fine-tuned here"), jobs:
        create(jobs, chats, model="none")
    jobs.print_list()
    assert "created no job" in capsys.readouterr().out


def test_an_api_that_does_not_answer_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list", "--api", "http://127.0.0.1:9/v1"]) == 1
    assert "http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
    assert main(["jobs", "pause", "ftjob-1", "--api", "head"]) == 1
    assert "--api head: expected the base URL of an API" in capsys.readouterr().err
