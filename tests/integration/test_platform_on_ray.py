"""Fine-tuning through the unmodified OpenAI SDK on real Ray: upload, job, events, chat with the result, deletion.

And the administrators' view of a job.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent

from tests.integration.platform_server import ALIAS, BASE, ELSEWHERE, PlatformServer, platform_server
from tuneyard.api.wire.platform_api.runs import RunCurves, RunDetails, RunList, VersionList
from tuneyard.configs.finetune import CONFIG_NAME

pytestmark = pytest.mark.integration
DATA = Path("jobs/data")
DEADLINE_S = 420.0


@pytest.fixture(scope="module")
def server(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlatformServer]:
    with platform_server(tmp_path_factory.mktemp("platform"), tiny_oss) as running:
        yield running


def upload(client: openai.OpenAI, name: str, rows: int) -> str:
    lines = (DATA / f"brindle_{name}.jsonl").read_text(encoding="utf-8").splitlines()[:rows]
    return client.files.create(file=(f"{name}.jsonl", "\n".join(lines).encode()), purpose="fine-tune").id


def wait_for(client: openai.OpenAI, job: str, *statuses: str) -> FineTuningJob:
    deadline = time.monotonic() + DEADLINE_S
    while (found := client.fine_tuning.jobs.retrieve(job)).status not in statuses:
        assert found.status not in ("failed", "cancelled"), found.error
        assert time.monotonic() < deadline, f"{found.status} after {DEADLINE_S} s"
        time.sleep(0.5)
    return found


def test_administrators_see_a_job_from_its_place_in_the_queue_to_its_version(server: PlatformServer) -> None:
    """Its state, curves, config, data and version. The first test, because administrators see all jobs."""
    client = server.client(server.create_key("watched"), timeout=300)

    def get(path: str) -> Any:
        with server.http((server.home / "admin_key").read_text().strip()) as admin:
            answer = admin.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()

    values = {"n_epochs": 2, "batch_size": 4}
    job = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=upload(client, "train", 8),
        method={"type": "supervised", "supervised": {"hyperparameters": values}},
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
    assert client.models.delete(model or "").deleted


def test_upload_job_events_chat_delete(server: PlatformServer) -> None:
    client = server.client(server.create_key("owner"), timeout=300)
    other = server.client(server.create_key("other"))
    job = client.fine_tuning.jobs.create(
        model=ALIAS,
        training_file=upload(client, "train", 12),
        validation_file=upload(client, "heldout", 4),
        suffix="on ray",
        seed=3,
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 4}}},
    )
    assert (job.status, job.model) == ("validating_files", BASE)
    stream = client.get(
        f"/fine_tuning/jobs/{job.id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.Stream[FineTuningJobEvent],
    )
    events = list(stream)
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", (job.error, [event.message for event in events])
    assert job.fine_tuned_model == f"ft:{BASE}:tuneyard:on-ray:{job.id[-12:]}"
    assert events[-1].message == "The job has successfully completed"
    steps = [event.data["step"] for event in events if event.type == "metrics"]  # type: ignore[index]
    assert steps == sorted(set(steps))
    assert job.trained_tokens
    table = client.files.content(job.result_files[0]).text.splitlines()
    assert table[0] == "step,train_loss,valid_loss"
    assert len(table) == steps[-1] + 1
    # The template saves every 4 steps and after the last one.
    last, earlier = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert (last.step_number, last.fine_tuned_model_checkpoint) == (steps[-1], job.fine_tuned_model)
    assert (earlier.step_number, earlier.fine_tuned_model_checkpoint) == (4, f"{job.fine_tuned_model}:ckpt-step-4")
    assert (earlier.metrics.step, last.metrics.step) == (4, steps[-1])
    assert earlier.metrics.train_loss
    half_trained = client.completions.create(
        model=earlier.fine_tuned_model_checkpoint, prompt="Hello", max_tokens=4, temperature=0
    )
    assert half_trained.model == earlier.fine_tuned_model_checkpoint
    answer = client.chat.completions.create(
        model=job.fine_tuned_model, messages=[{"role": "user", "content": "Hello"}], max_tokens=8
    )
    assert answer.model == job.fine_tuned_model
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0
    assert [model.id for model in client.models.list()] == [job.fine_tuned_model, earlier.fine_tuned_model_checkpoint]
    assert list(other.models.list()) == []
    with pytest.raises(openai.NotFoundError):
        other.chat.completions.create(model=job.fine_tuned_model, messages=[{"role": "user", "content": "Hello"}])
    assert client.models.delete(job.fine_tuned_model).deleted
    for name in (job.fine_tuned_model, earlier.fine_tuned_model_checkpoint):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(name)
    folder = server.home / "fine_tuning" / job.id
    deadline = time.monotonic() + 120
    while folder.exists():
        assert time.monotonic() < deadline, "the model's files are still there"
        time.sleep(0.5)


@pytest.mark.long
def test_a_job_goes_on_from_a_tuned_model(server: PlatformServer) -> None:
    client = server.client(server.create_key("goes on"), timeout=300)
    settings: Any = {"training_file": upload(client, "train", 8), "hyperparameters": {"n_epochs": 1, "batch_size": 4}}
    first = wait_for(client, client.fine_tuning.jobs.create(model=BASE, **settings).id, "succeeded").fine_tuned_model
    assert first is not None
    job = client.fine_tuning.jobs.create(model=first, **settings)
    assert job.model == first
    with pytest.raises(openai.ConflictError):
        client.models.delete(first)
    job = wait_for(client, job.id, "succeeded")
    config = json.loads((server.home / "fine_tuning" / job.id / "runs" / job.id / CONFIG_NAME).read_text())
    assert config["model"]["base"].endswith(f"{first_job(client, first)}/1")
    assert client.models.delete(first).deleted
    answer = client.completions.create(model=job.fine_tuned_model or "", prompt="Hello", max_tokens=4)
    assert answer.model == job.fine_tuned_model


def first_job(client: openai.OpenAI, model: str) -> str:
    """The id of the job that made the model."""
    (job,) = (job for job in client.fine_tuning.jobs.list() if job.fine_tuned_model == model)
    return job.id


def test_pause_resume_and_cancel(server: PlatformServer) -> None:
    client = server.client(server.create_key("pauser"))
    jobs = client.fine_tuning.jobs
    job = jobs.create(model=BASE, training_file=upload(client, "train", 20), hyperparameters={"n_epochs": 40})
    wait_for(client, job.id, "running")
    assert jobs.pause(job.id).status == "paused"
    assert jobs.resume(job.id).status == "queued"
    wait_for(client, job.id, "running")
    assert jobs.cancel(job.id).status == "cancelled"
    folder = server.home / "fine_tuning" / job.id
    deadline = time.monotonic() + 120
    while folder.exists():
        assert time.monotonic() < deadline, "the files of a cancelled job are still there"
        time.sleep(0.5)
    assert jobs.retrieve(job.id).status == "cancelled"


def test_a_job_that_the_cluster_can_never_hold_fails_and_says_why(server: PlatformServer) -> None:
    client = server.client(server.create_key("elsewhere"))
    job = client.fine_tuning.jobs.create(model=ELSEWHERE, training_file=upload(client, "train", 8))
    deadline = time.monotonic() + DEADLINE_S
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status != "failed":
        assert time.monotonic() < deadline, job.status
        time.sleep(0.5)
    assert job.error is not None
    assert job.error.code == "insufficient_resources"
    assert "no_such_node: 1 needed, 0 available" in job.error.message


def test_preference_pairs_are_trained_with_dpo(server: PlatformServer) -> None:
    client = server.client(server.create_key("preferences"), timeout=300)
    pairs = [
        {
            "input": {"messages": [{"role": "user", "content": f"question {number}"}]},
            "preferred_output": [{"role": "assistant", "content": "a friendly answer"}],
            "non_preferred_output": [{"role": "assistant", "content": "no"}],
        }
        for number in range(8)
    ]
    content = "\n".join(map(json.dumps, pairs)).encode()
    file = client.files.create(file=("pairs.jsonl", content), purpose="fine-tune").id
    hyperparameters = {"n_epochs": 1, "beta": 0.2, "batch_size": 2}
    job = client.fine_tuning.jobs.create(
        model=BASE, training_file=file, method={"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}
    )
    job = wait_for(client, job.id, "succeeded")
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    table = client.files.content(job.result_files[0]).text.splitlines()
    assert table[0] == "step,train_loss,train_preference_accuracy,train_reward_margin"
    assert len(table) == 5
    assert job.fine_tuned_model is not None
    answer = client.completions.create(model=job.fine_tuned_model, prompt="Hello", max_tokens=4)
    assert answer.model == job.fine_tuned_model
