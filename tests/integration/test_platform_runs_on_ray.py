"""The administrators' view of a fine-tuning job on real Ray: its state, curves, config, data, and its version."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.platform_server import BASE, PlatformServer, platform_server
from tuneyard.api.wire.platform_api.runs import RunCurves, RunDetails, RunList, VersionList

pytestmark = pytest.mark.integration
DATA = Path("jobs/data")
DEADLINE_S = 420.0


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    with platform_server(tmp_path_factory.mktemp("platform"), tiny_oss) as running:
        yield running


def test_administrators_see_a_job_from_its_place_in_the_queue_to_its_version(server: PlatformServer) -> None:
    client = server.client(server.create_key("owner"), timeout=300)

    def get(path: str) -> Any:
        with server.http((server.home / "admin_key").read_text().strip()) as admin:
            answer = admin.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    rows = (DATA / "brindle_train.jsonl").read_bytes().splitlines()[:8]
    file = client.files.create(file=("train.jsonl", b"\n".join(rows)), purpose="fine-tune").id
    values = {"n_epochs": 2, "batch_size": 4}
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=file, method={"type": "supervised", "supervised": {"hyperparameters": values}}
    )
    seen: list[str] = []
    deadline = time.monotonic() + DEADLINE_S
    while True:
        status = client.fine_tuning.jobs.retrieve(job.id).status
        listed = RunList.model_validate(get("/v1/runs"))
        assert listed.problems == ()
        (run,) = listed.data
        assert run.name == job.id
        seen += [run.status] if run.status not in seen else []
        if status in ("succeeded", "failed"):
            break
        assert time.monotonic() < deadline, (status, run)
        time.sleep(0.5)
    assert status == "succeeded"
    time.sleep(1.1)  # for longer than the routes keep an answer
    (run,) = RunList.model_validate(get("/v1/runs")).data
    assert seen[0] == "queued"
    assert "running" in seen
    assert (run.status, run.version, run.job) == ("succeeded", f"{job.id}/1", f"{job.id}-1")
    assert run.progress == pytest.approx(1.0)
    details = RunDetails.model_validate(get(f"/v1/runs/{run.id}"))
    assert details.problems == ()
    assert details.config is not None
    assert details.config["training"]["epochs"] == 2
    assert details.data is not None
    assert (details.data.train.chats, details.data.train.tokens) == (8, int(details.params["train_tokens"]))
    assert any(piece.trained for piece in details.data.preview[0].pieces)
    curves = RunCurves.model_validate(get(f"/v1/runs/{run.id}/metrics"))
    assert {"loss", "learning_rate", "tokens_per_s"} <= {curve.name for curve in curves.curves}
    assert curves.last_step == run.step == run.total_steps
    (version,) = VersionList.model_validate(get("/v1/model_versions")).data
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert (version.id, version.lineage.run, [by.model for by in version.served_by]) == (run.version, run.id, [model])
