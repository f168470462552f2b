"""`tuneyard platform import`: saved jobs are created once at an API, however often the command is run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.serve_apps.platform_app.fine_tuning.tuning_setup import ALIAS, chat_rows
from tests.tuneyard.cli.api_in_thread import api_in_thread
from tuneyard.cli.main import main
from tuneyard.cli.openai_import import job_import
from tuneyard.cli.openai_import.export_folder import ExportFolder
from tuneyard.cli.openai_import.job_import import JobImport
from tuneyard.core.errors import DatasetError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two jobs that succeeded and share a file, one that failed, and one with reinforcement."""
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "file-a.jsonl").write_bytes(chat_rows(12))
    (folder / "mydata.jsonl").write_bytes(chat_rows(5, 50))
    reinforcement = {"type": "reinforcement", "reinforcement": {"hyperparameters": {}}}
    jobs = [
        job("one", 1, suffix="first"),
        job("two", 2, method=None, hyperparameters={"n_epochs": 1, "batch_size": 4}, validation_file="file-b"),
        job("three", 3, status="failed"),
        job("four", 4, method=reinforcement),
    ]
    (folder / "jobs.json").write_text(json.dumps({"object": "list", "data": jobs, "has_more": False}))
    (folder / "files.jsonl").write_text(json.dumps({"object": "file", "id": "file-b", "filename": "mydata.jsonl"}))
    return folder


def job(name: str, created_at: int, **values: Any) -> dict[str, Any]:
    return {
        "object": "fine_tuning.job",
        "id": f"ftjob-{name}",
        "created_at": created_at,
        "model": ALIAS,
        "fine_tuned_model": f"ft:{ALIAS}:acme::{name}",
        "status": "succeeded",
        "training_file": "file-a",
        "method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        "seed": 3,
    } | values


@pytest.fixture
def client(tmp_path: Path) -> Iterator[openai.OpenAI]:
    with api_in_thread(tmp_path, max_active_jobs_per_key=1) as client:
        yield client


def run(saved: Path, client: openai.OpenAI, *ids: str, base: str | None = None, **options: bool) -> int:
    values = {"is_dry_run": False, "wait": True} | options
    return JobImport(ExportFolder.read(saved), client, **values).run(list(ids), base)


def wait_for_all(client: openai.OpenAI) -> None:
    while any(job.status in ("validating_files", "queued", "running") for job in client.fine_tuning.jobs.list()):
        pass


def test_jobs_are_created_once(
    saved: Path, client: openai.OpenAI, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_import, "WAIT_S", 0.05)
    assert run(saved, client, is_dry_run=True) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"[import] ftjob-one  would be created: {ALIAS}  supervised n_epochs=2 suffix=first")
    assert "batch_size=4 seed=3  file-a.jsonl, mydata.jsonl" in lines[1]
    assert "ftjob-three  left out: its status is failed; --job ftjob-three imports it" in lines[2]
    assert "ftjob-four  refused: Reinforcement fine-tuning is not supported" in lines[3]
    assert lines[4:] == ["[import] 2 would be created, 1 left out, 1 refused"]
    assert list(client.fine_tuning.jobs.list()) == list(client.files.list()) == []
    assert run(saved, client) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "[import] 2 created, 1 left out, 1 refused"
    second, first = client.fine_tuning.jobs.list()
    assert first.metadata == {"imported_from": "ftjob-one"}
    assert (first.seed, first.to_dict()["user_provided_suffix"]) == (3, "first")
    assert second.validation_file is not None
    assert second.training_file == first.training_file
    assert [file.filename for file in client.files.list(order="asc", purpose="fine-tune")] == [
        "file-a.jsonl",
        "mydata.jsonl",
    ]
    wait_for_all(client)
    assert run(saved, client) == 1
    lines = capsys.readouterr().out.splitlines()
    assert (
        f"ftjob-one  there already: {first.id}, succeeded: ft:{ALIAS}:acme::one is ft:tiny:tuneyard:first:" in lines[0]
    )
    assert len(list(client.fine_tuning.jobs.list())) == 2


def test_a_job_goes_on_from_what_another_one_made(
    saved: Path, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job("one", 1), job("two", 2, model=f"ft:{ALIAS}:acme::one", training_file="file-b")]
    (saved / "jobs.json").write_text(json.dumps(jobs))
    assert run(saved, client, is_dry_run=True, base="tiny") == 0
    assert f"would be created: ft:{ALIAS}:acme::one  supervised" in capsys.readouterr().out
    assert run(saved, client, base="tiny") == 1
    assert "not created yet: it goes on from" in capsys.readouterr().out
    wait_for_all(client)
    assert run(saved, client, base="tiny") == 0
    second, first = client.fine_tuning.jobs.list()
    assert (first.model, second.model) == ("tiny", first.fine_tuned_model)


INTEGRATION = {"type": "wandb", "wandb": {"project": "support", "run_id": "ftjob-one"}}


def test_metrics_go_to_weights_and_biases_where_the_deployment_sends_them(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "jobs.json").write_text(json.dumps([job("one", 1, integrations=[INTEGRATION])]))
    with api_in_thread(tmp_path, wandb={}) as client:
        assert run(saved, client) == 0
        (created,) = client.fine_tuning.jobs.list()
    assert created.integrations is not None
    wandb = created.integrations[0].to_dict()["wandb"]
    assert wandb == {"project": "support", "entity": None, "name": None, "tags": None, "run_id": created.id}
    assert "wandb.project=support" in capsys.readouterr().out


def test_a_job_is_imported_without_an_integration_that_the_deployment_refuses(
    saved: Path, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved / "jobs.json").write_text(json.dumps([job("one", 1, integrations=[INTEGRATION])]))
    assert run(saved, client) == 0
    (created,) = client.fine_tuning.jobs.list()
    assert not created.integrations
    lines = capsys.readouterr().out.splitlines()
    assert "ftjob-one  created: " in lines[-3]
    assert "wandb.project" not in lines[-3]
    assert "its integration wandb is left out: this deployment has no platform.wandb. Metrics are in" in lines[-2]
    assert run(saved, client) == 0
    assert len(list(client.fine_tuning.jobs.list())) == 1


def test_a_full_key_is_named(saved: Path, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "jobs.json").write_text(json.dumps([job(str(number), number) for number in range(20)]))
    assert run(saved, client, wait=False) == 1
    assert "  not created yet: This API key has 1 " in capsys.readouterr().out


def test_an_api_that_refuses_is_quoted(saved: Path, client: openai.OpenAI, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(saved, client, "ftjob-one", base="none") == 1
    assert "ftjob-one  refused: The model 'none'" in capsys.readouterr().out
    (saved / "file-a.jsonl").write_text('{"wrong": 1}\n')
    assert run(saved, client, "ftjob-three") == 1
    assert "ftjob-three  refused: Invalid value for 'training_file'" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="has no job ftjob-none"):
        run(saved, client, "ftjob-none")


def test_the_command(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without an API it says what it would do."""
    assert main(["platform", "import", str(saved), "--dry-run", "--job", "ftjob-one", "--model", "mine"]) == 0
    assert "would be created: mine  supervised" in capsys.readouterr().out
    assert main(["platform", "import", str(saved)]) == 1
    assert "needs --api URL" in capsys.readouterr().err
    assert main(["platform", "import", str(saved), "--api", "http://127.0.0.1:9/v1"]) == 1
    assert "http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
