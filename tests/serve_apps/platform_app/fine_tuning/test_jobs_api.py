"""Fine-tuning jobs through the unmodified OpenAI SDK, on a cluster in this process."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from serve_apps.platform_app.fine_tuning.execution.run_records import MetricPoint
from serve_apps.platform_app.fine_tuning.records.states import RunState
from tests.serve_apps.platform_app.conftest import error_of
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import TRAIN_TOKENS, ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import ALIAS, BASE, Work, chat_rows, upload


async def create(client: openai.AsyncOpenAI, **options: Any) -> FineTuningJob:
    file = options.pop("training_file", None) or await upload(client)
    return await client.fine_tuning.jobs.create(model=options.pop("model", BASE), training_file=file, **options)


async def retrieve(client: openai.AsyncOpenAI, job: FineTuningJob) -> FineTuningJob:
    return await client.fine_tuning.jobs.retrieve(job.id)


async def messages(client: openai.AsyncOpenAI, job: FineTuningJob) -> list[str]:
    """The messages of all events, oldest first."""
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    return [event.message for event in reversed(events)]


async def test_a_job_from_its_files_to_its_model(work: Work, client: openai.AsyncOpenAI) -> None:
    training, validation = await upload(client), await upload(client, chat_rows(3, 100))
    job = await create(
        client,
        training_file=training,
        validation_file=validation,
        model=ALIAS,
        suffix="Acme Support!",
        metadata={"team": "support"},
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto"}}},
    )
    FineTuningJob.model_validate(job.model_dump(), strict=True)
    assert (job.status, job.model, job.object, job.organization_id) == (
        "validating_files",
        BASE,
        "fine_tuning.job",
        "tuneyard",
    )
    assert job.hyperparameters.batch_size == "auto"
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens, job.result_files) == (None, None, None, [])
    await work.step()
    job = await retrieve(client, job)
    assert job.status == "queued"
    assert job.hyperparameters.model_dump() == {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 1.0}
    assert job.method is not None
    assert job.method.supervised is not None
    assert job.method.supervised.hyperparameters == job.hyperparameters or job.method.supervised.hyperparameters
    await work.step()
    (run_id,) = work.cluster.live_runs()
    for _ in range(3):
        work.cluster.train(run_id)
    await work.step()
    await work.step()
    job = await retrieve(client, job)
    assert job.status == "running"
    assert job.estimated_finish is not None
    await work.run(4)
    job = await retrieve(client, job)
    assert job.status == "succeeded", job.error
    assert job.fine_tuned_model == f"ft:tiny:tuneyard:acme-support:{job.id[-12:]}"
    assert job.trained_tokens == 2 * TRAIN_TOKENS
    assert job.finished_at is not None
    assert job.estimated_finish is None
    assert job.metadata == {"team": "support"}
    (result,) = job.result_files
    table = (await client.files.content(result)).text
    assert table.splitlines() == [
        "step,train_loss,valid_loss",
        "1,2,2.5",
        "2,1,1.25",
        "3,0.666667,0.833333",
        "4,0.5,0.625",
    ]
    assert (await client.files.retrieve(result)).purpose == "fine-tune-results"
    assert await messages(client, job) == [
        f"Created fine-tuning job: {job.id}",
        f"The model {ALIAS} stands for the base {BASE} here.",
        f"Validating training file: {training}",
        f"Validating validation file: {validation}",
        "Files validated, moving job to queued state",
        "Hyperparameters chosen for 12 rows: batch_size=4, learning_rate_multiplier=1.",
        "Fine-tuning job started",
        "Step 1/4: training loss=2, validation loss=2.5",
        "Step 2/4: training loss=1, validation loss=1.25",
        "Step 3/4: training loss=0.6667, validation loss=0.8333",
        "Step 4/4: training loss=0.5, validation loss=0.625",
        "Training is complete; the model is being proved and made available",
        f"New fine-tuned model created: {job.fine_tuned_model}",
        "The job has successfully completed",
    ]
    (checkpoint,) = [c async for c in client.fine_tuning.jobs.checkpoints.list(job.id)]
    FineTuningJobCheckpoint.model_validate(checkpoint.model_dump(), strict=True)
    assert checkpoint.fine_tuned_model_checkpoint == job.fine_tuned_model
    assert (checkpoint.step_number, checkpoint.metrics.train_loss) == (4, 0.5)
    assert work.cluster.applications == {job.id: job.fine_tuned_model}


async def test_events_are_paged_and_streamed(work: Work, client: openai.AsyncOpenAI) -> None:
    job = await create(client)
    await work.run()
    pages = [page async for page in (await client.fine_tuning.jobs.list_events(job.id, limit=2)).iter_pages()]
    by_page = [event.id for page in pages for event in page.data]
    assert len(pages) > 3
    assert len(set(by_page)) == len(by_page)
    stream = await client.get(
        f"/fine_tuning/jobs/{job.id}/events",
        cast_to=FineTuningJobEvent,
        options={"params": {"stream": "true"}},
        stream=True,
        stream_cls=openai.AsyncStream[FineTuningJobEvent],
    )
    streamed = [event async for event in stream]
    assert [event.id for event in streamed] == by_page[::-1]
    steps = [event for event in streamed if event.type == "metrics"]
    assert [event.data["step"] for event in steps] == [1, 2, 3, 4]  # type: ignore[index]
    for event in streamed:
        FineTuningJobEvent.model_validate(event.model_dump(), strict=True)


async def told_steps(client: openai.AsyncOpenAI, job: FineTuningJob) -> list[tuple[int, bool]]:
    """The steps that have an event, oldest first, and whether it has the validation loss."""
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    found: list[Any] = [event.data for event in reversed(events) if event.type == "metrics"]
    return [(data["step"], "valid_loss" in data) for data in found]


async def test_a_step_is_told_at_once_unless_its_validation_may_follow(
    work: Work, cluster: ClusterInProcess, client: openai.AsyncOpenAI
) -> None:
    """The run has two epochs of two steps, and measures its held-out rows after each epoch."""
    validation = await upload(client, chat_rows(3, 100))
    job = await create(client, validation_file=validation, hyperparameters={"n_epochs": 2})
    await work.step()
    await work.step()
    (run_id,) = cluster.live_runs()
    points = cluster.points.setdefault(job.id, {})
    told = []
    for step, values in ((1, {}), (2, {}), (2, {"eval_loss": 1.0}), (3, {}), (4, {}), (4, {"eval_loss": 0.5})):
        cluster.runs[run_id].state = RunState.RUNNING
        points[step] = MetricPoint(step, {"loss": 2.0, "epoch": step / 2, **values}, 1000.0 + step)
        await work.step()
        told.append(await told_steps(client, job))
    one, two, three, four = (1, False), (2, True), (3, False), (4, True)
    assert told == [[one], [one], [one, two], [one, two, three], [one, two, three], [one, two, three, four]]


async def test_a_list_has_pages_and_filters(client: openai.AsyncOpenAI) -> None:
    file = await upload(client)
    jobs = client.fine_tuning.jobs
    made = [await create(client, training_file=file, metadata={"n": str(n % 2), "all": ""}) for n in range(2)]
    made.append(await create(client, training_file=file))
    assert [job.id async for job in jobs.list(limit=1)] == [job.id for job in reversed(made)]
    assert [job.id async for job in jobs.list(metadata={"n": "1"})] == [made[1].id]
    assert [job.id async for job in jobs.list(metadata={"n": "1", "all": "x"})] == []
    assert {job.id async for job in jobs.list(metadata={"all": ""})} == {made[0].id, made[1].id}
    without = jobs.list(extra_query={"metadata": "null"})
    assert [job.id async for job in without] == [made[2].id]


async def test_an_event_names_the_system_message_that_all_chats_share(work: Work, client: openai.AsyncOpenAI) -> None:
    system = {"role": "system", "content": "You answer for Acme."}
    rows = [json.loads(line) for line in chat_rows(3).splitlines()]
    shared = [json.dumps({"messages": [system, *row["messages"]]}) for row in rows]
    file = await upload(client, "\n".join(shared).encode())
    job = await client.fine_tuning.jobs.create(model=BASE, training_file=file)
    await work.step()
    advice = "All training chats begin with the system message 'You answer for Acme.': send it with every request too."
    assert advice in await messages(client, job)


async def test_a_broken_file_fails_the_job_by_name(work: Work, client: openai.AsyncOpenAI) -> None:
    good = await upload(client)
    bad = await upload(client, chat_rows(3, 50))
    path = await work.platform.context.files.location(
        (await work.platform.context.database.run(lambda: work.platform.keys.list_keys()[0].sha256)),  # type: ignore[union-attr]
        bad,
    )
    with open(path, "a", encoding="utf-8") as content:  # noqa: PTH123
        content.write("broken\n")
    job = await create(client, training_file=good, validation_file=bad)
    await work.step()
    job = await retrieve(client, job)
    assert job.status == "failed"
    assert job.error is not None
    assert job.error.model_dump() == {
        "code": "invalid_validation_file",
        "message": f"{bad}:4: a broken row",
        "param": "validation_file",
    }
    await work.step()
    assert (await client.files.delete(bad)).deleted
    assert not work.cluster.submitted


async def test_cancel_pause_and_resume(work: Work, client: openai.AsyncOpenAI) -> None:
    jobs, cluster = client.fine_tuning.jobs, work.cluster
    job = await create(client)
    assert (await jobs.pause(job.id)).status == "paused"
    await work.step()
    assert (await retrieve(client, job)).status == "paused"
    assert (await jobs.resume(job.id)).status == "validating_files"
    for _ in range(3):
        await work.step()
    cluster.train(f"{job.id}-1")
    await work.step()
    assert (await retrieve(client, job)).status == "running"
    assert (await jobs.pause(job.id)).status == "paused"
    await work.step()
    await work.step()
    assert cluster.live_runs() == []
    assert (await jobs.resume(job.id)).status == "queued"
    for _ in range(3):
        await work.step()
    assert cluster.live_runs() == [f"{job.id}-2"]
    assert (await jobs.cancel(job.id)).status == "cancelled"
    await work.run(3)
    assert cluster.live_runs() == []
    assert cluster.submitted == [f"{job.id}-1", f"{job.id}-2"]
    job = await retrieve(client, job)
    assert job.status == "cancelled"
    assert job.finished_at is not None
    for wish in (jobs.cancel, jobs.pause, jobs.resume):
        with pytest.raises(openai.BadRequestError):
            await wish(job.id)


async def test_what_is_refused_is_refused_by_name(client: openai.AsyncOpenAI) -> None:
    file = await upload(client)
    other_purpose = await upload(client, b'{"a": 1}\n', "evals")
    refused: list[tuple[dict[str, Any], int, str, str]] = [
        ({"model": "gpt-5"}, 404, "model_not_found", "model"),
        ({"model": "ft:tiny:tuneyard::abc"}, 404, "model_not_found", "model"),
        ({"method": {"type": "reinforcement"}}, 400, "unsupported", "method.type"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, 400, "unsupported", "integrations"),
        ({"training_file": "file-none"}, 404, "not_found", "id"),
        ({"training_file": other_purpose}, 400, "invalid_file_purpose", "training_file"),
        ({"validation_file": file}, 400, "invalid_value", "validation_file"),
        ({"hyperparameters": {"batch_size": 3}}, 400, "invalid_value", "hyperparameters.batch_size"),
        ({"hyperparameters": {"n_epochs": 0}}, 400, "invalid_value", "hyperparameters.n_epochs"),
        ({"suffix": "x" * 65}, 400, "invalid_value", "suffix"),
        ({"extra_body": {"surprise": 1}}, 400, "unknown_parameter", "surprise"),
        ({"metadata": {str(n): "" for n in range(17)}}, 400, "invalid_value", "metadata"),
    ]
    for options, status, code, param in refused:
        with pytest.raises(openai.APIStatusError) as error:
            await create(client, **{"training_file": file} | options)
        assert error_of(error.value) == (status, code, param), options
    assert [job async for job in client.fine_tuning.jobs.list()] == []


async def test_two_keys_see_nothing_of_each_other(work: Work, client: openai.AsyncOpenAI) -> None:
    other = work.platform.sdk(work.platform.create_key("other"))
    job = await create(client)
    await work.run()
    model = (await retrieve(client, job)).fine_tuned_model
    assert model is not None
    jobs = other.fine_tuning.jobs
    assert [job async for job in jobs.list()] == []
    for call in (
        jobs.retrieve(job.id),
        jobs.cancel(job.id),
        jobs.pause(job.id),
        jobs.resume(job.id),
        jobs.list_events(job.id),
        jobs.checkpoints.list(job.id),
        jobs.create(model=BASE, training_file=job.training_file),
        other.models.delete(model),
    ):
        with pytest.raises(openai.NotFoundError):
            await call  # type: ignore[misc]
    unknown = await work.platform.http(work.platform.create_key("third")).get(f"/v1/fine_tuning/jobs/{job.id}")
    assert unknown.json() == json.loads(
        json.dumps(
            {
                "error": {
                    "message": f"No such FineTuningJob object: {job.id}",
                    "type": "invalid_request_error",
                    "param": "id",
                    "code": "not_found",
                }
            }
        )
    )


async def test_a_key_has_a_limit_of_active_jobs(client: openai.AsyncOpenAI) -> None:
    file = await upload(client)
    made = [await create(client, training_file=file) for _ in range(3)]
    with pytest.raises(openai.RateLimitError) as error:
        await create(client, training_file=file)
    assert error.value.code == "active_jobs_limit"
    await client.fine_tuning.jobs.cancel(made[0].id)
    await create(client, training_file=file)


async def test_a_repeated_request_creates_one_job(client: openai.AsyncOpenAI) -> None:
    file = await upload(client)
    key = {"Idempotency-Key": "once"}
    first = await create(client, training_file=file, extra_headers=key)
    again = await create(client, training_file=file, extra_headers=key)
    assert first.id == again.id
    with pytest.raises(openai.BadRequestError):
        await create(client, training_file=file, seed=1, extra_headers=key)


async def test_a_file_in_use_cannot_be_deleted(client: openai.AsyncOpenAI) -> None:
    job = await create(client)
    with pytest.raises(openai.APIStatusError):
        await client.files.delete(job.training_file)
    await client.fine_tuning.jobs.cancel(job.id)
    await client.files.delete(job.training_file)
    assert (await retrieve(client, job)).training_file == job.training_file


async def test_a_run_that_fails_tells_why(work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess) -> None:
    job = await create(client)
    await work.step()
    await work.step()
    cluster.fail(f"{job.id}-1", "The loss is nan at step 3.")
    await work.run(3)
    job = await retrieve(client, job)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.message) == ("training_failed", "The loss is nan at step 3.")


async def test_runs_that_are_interrupted_go_on(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    job = await create(client)
    await work.step()
    await work.step()
    cluster.train(f"{job.id}-1")
    cluster.kill_driver(f"{job.id}-1")
    await work.step()
    await work.step()
    await work.step()
    assert cluster.live_runs() == [f"{job.id}-2"]
    cluster.kill_head()
    await work.run()
    job = await retrieve(client, job)
    assert job.status == "succeeded"
    assert cluster.submitted == [f"{job.id}-{attempt}" for attempt in (1, 2, 3)]
    assert sum("goes on from its last checkpoint" in text for text in await messages(client, job)) == 2
