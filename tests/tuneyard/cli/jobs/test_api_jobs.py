"""`tuneyard jobs … --api`: jobs of a fine-tuning API from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, chat_rows
from tests.tuneyard.cli.api_in_thread import URL, api_in_thread
from tuneyard.cli.jobs.api_jobs import ApiJobs
from tuneyard.cli.main import main
from tuneyard.core.errors import ClusterError


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[ApiJobs]:
    with api_in_thread(tmp_path, max_active_jobs_per_key=None) as client, ApiJobs(URL, client) as api:
        yield api


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
