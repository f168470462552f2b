"""Tuned models through the OpenAI SDK: their owner's only, answering at once, deleted in the right order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from ray.serve.exceptions import RayServeException

from serve_apps.api.model_calls import ModelCalls
from serve_apps.engines.scripted_engine import ScriptedEngine
from serve_apps.generation.served_model import ServedModel
from serve_apps.platform_app.store.platform_database import open_database
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.served_models import ServedModels
from tests.harmony_text import encode_spelled_out
from tests.serve_apps.platform_app.conftest import error_of
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, NoDeployedModels, Work, base_options, upload
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tests.serve_apps.platform_app.served_models import Handle
from tuneyard.api.api_keys import KeyStore
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.storage.sql.location import SqlLocation


@pytest.fixture
def cluster() -> ClusterInProcess:
    return ClusterInProcess()


@pytest.fixture
def checkpoints() -> int:
    """Checkpoints of a job that answer by their names."""
    return 1


@pytest.fixture
def work(
    checkpoints: int, cluster: ClusterInProcess, codec: HarmonyCodec, tiny_oss: Path, tmp_path: Path
) -> Iterator[Work]:
    """The application whose tuned models answer `tuned`."""
    location = SqlLocation(file=tmp_path / "platform.db")
    script = [encode_spelled_out(tiny_oss, "<|channel|>final<|message|>tuned<|return|>")]

    def check_application(name: str) -> None:
        if name not in cluster.applications:
            raise RayServeException(f"Application '{name}' does not exist.")

    def open_handle(name: str) -> Any:
        return Handle(ModelCalls(ServedModel(ScriptedEngine(script), codec, cluster.applications[name], "0" * 16)))

    owned = ServedModels(ModelStore(open_database(location)), "tuneyard", check_application, open_handle)
    options = {
        "keys": KeyStore(tmp_path / "api_keys.json"),
        "cluster": cluster.services,
        "directory": NoDeployedModels(owned),
    }
    with open_platform(location, tmp_path, **options, **base_options(tmp_path, checkpoints=checkpoints)) as platform:
        yield Work(platform, cluster)


async def tune(work: Work, client: openai.AsyncOpenAI) -> tuple[str, str]:
    """The ids of a job that succeeds, and of its model."""
    file = await upload(client)
    job = await client.fine_tuning.jobs.create(model=BASE, training_file=file, suffix="mine")
    await work.run()
    model = (await client.fine_tuning.jobs.retrieve(job.id)).fine_tuned_model
    assert model is not None
    return job.id, model


async def ask(client: openai.AsyncOpenAI, model: str) -> str | None:
    answer = await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "hi"}])
    assert answer.model == model
    return answer.choices[0].message.content


async def test_a_model_answers_at_once_and_only_its_owner(work: Work) -> None:
    keys = [work.platform.create_key("owner", models=(BASE,)), work.platform.create_key("other")]
    owner, other = map(work.platform.sdk, keys)
    job, model = await tune(work, owner)
    assert await ask(owner, model) == "tuned"
    assert (await owner.models.retrieve(f"{job}/1")).id == model
    (card,) = (await owner.models.list()).data
    assert (card.id, card.owned_by) == (model, "tuneyard")
    assert (await owner.models.retrieve(model)).id == model
    assert (await other.models.list()).data == []
    for name in (model, f"{job}/1", f"{job}@newest"):
        with pytest.raises(openai.NotFoundError):
            await other.models.retrieve(name)
        with pytest.raises(openai.NotFoundError):
            await ask(other, name)


async def test_a_model_is_deleted_in_order_and_gone_at_once(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    cluster.held_aliases[job] = ["production"]
    with pytest.raises(openai.ConflictError) as error:
        await owner.models.delete(model)
    assert error_of(error.value) == (409, "model_in_use", "model")
    assert await ask(owner, model) == "tuned"
    cluster.held_aliases.clear()
    deleted = await owner.models.delete(model)
    assert (deleted.id, deleted.deleted, deleted.object) == (model, True, "model")
    for call in (ask(owner, model), owner.models.delete(model), owner.models.retrieve(model)):
        with pytest.raises(openai.NotFoundError):
            await call
    await work.step()
    assert cluster.deleted == [f"application {job}", f"versions {job}", f"files {job}"]
    retrieved = await owner.fine_tuning.jobs.retrieve(job)
    assert (retrieved.status, retrieved.fine_tuned_model) == ("succeeded", model)


async def test_an_alias_that_is_set_meanwhile_keeps_the_model(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    await owner.models.delete(model)
    cluster.held_aliases[job] = ["production"]
    await work.step()
    assert cluster.deleted == []
    assert await ask(owner, model) == "tuned"


async def test_models_of_the_deployment_are_not_deleted(work: Work) -> None:
    client = work.platform.sdk(work.platform.create_key("owner"))
    with pytest.raises(openai.NotFoundError):
        await client.models.delete("unknown")


async def test_applications_follow_the_store(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    cluster.kill_head()
    with pytest.raises(openai.InternalServerError) as error:
        await ask(owner, model)
    assert error.value.code == "model_starting"
    cluster.applications["ftjob-stray"] = "of no job"
    await work.step()
    assert cluster.applications == {job: model}
    assert await ask(owner, model) == "tuned"


async def test_a_job_goes_on_from_a_tuned_model(work: Work, cluster: ClusterInProcess) -> None:
    """Its base in the cluster is the model's checkpoint; until it has ended the model stays."""
    keys = [work.platform.create_key("owner"), work.platform.create_key("other")]
    owner, other = map(work.platform.sdk, keys)
    first_id, first = await tune(work, owner)
    with pytest.raises(openai.NotFoundError, match="No tuned model of this API key has that name"):
        await other.fine_tuning.jobs.create(model=first, training_file=await upload(other))
    file = await upload(owner)
    job = await owner.fine_tuning.jobs.create(model=first, training_file=file, suffix="again")
    assert job.model == first
    with pytest.raises(openai.ConflictError, match=f"the job {job.id} goes on from it and has not ended"):
        await owner.models.delete(first)
    await work.step()
    await work.step()
    (run_id,) = cluster.live_runs()
    assert cluster.runs[run_id].config["model"]["base"] == cluster.versions[first_id]  # type: ignore[index]
    await work.run()
    job = await owner.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, job.model) == ("succeeded", first), job.error
    assert job.fine_tuned_model == f"ft:{BASE}:tuneyard:again:{job.id[-12:]}"
    events = [event.message async for event in owner.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert f"Training goes on from {first}." in events
    await owner.models.delete(first)
    await work.step()
    assert cluster.deleted[-1] == f"files {first_id}"
    assert await ask(owner, job.fine_tuned_model) == "tuned"
    with pytest.raises(openai.NotFoundError):
        await owner.fine_tuning.jobs.create(model=first, training_file=file)


with_checkpoints = pytest.mark.parametrize("checkpoints", [3])


async def listed(client: openai.AsyncOpenAI, job: str) -> list[FineTuningJobCheckpoint]:
    """All checkpoints of the job, by pages of one."""
    return [checkpoint async for checkpoint in client.fine_tuning.jobs.checkpoints.list(job, limit=1)]


@with_checkpoints
async def test_each_checkpoint_answers_by_its_name(work: Work) -> None:
    keys = [work.platform.create_key("owner"), work.platform.create_key("other")]
    owner, other = map(work.platform.sdk, keys)
    job, model = await tune(work, owner)
    found = await listed(owner, job)
    assert [(each.step_number, each.fine_tuned_model_checkpoint) for each in found] == [
        (4, model),
        (3, f"{model}:ckpt-step-3"),
        (2, f"{model}:ckpt-step-2"),
    ]
    assert [each.metrics.train_loss for each in found] == [pytest.approx(2.0 / step) for step in (4, 3, 2)]
    assert [each.metrics.step for each in found] == [4, 3, 2]
    for each in found:
        FineTuningJobCheckpoint.model_validate(each.model_dump(), strict=True)
        assert await ask(owner, each.fine_tuned_model_checkpoint) == "tuned"
        with pytest.raises(openai.NotFoundError):
            await ask(other, each.fine_tuned_model_checkpoint)
    assert {card.id for card in (await owner.models.list()).data} == {
        each.fine_tuned_model_checkpoint for each in found
    }
    events = [event.message async for event in owner.fine_tuning.jobs.list_events(job, limit=100)]
    assert f"Checkpoint created at step 3: {model}:ckpt-step-3" in events


@with_checkpoints
async def test_a_checkpoint_is_deleted_alone(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    name = f"{model}:ckpt-step-3"
    cluster.held_aliases[f"{job}/3"] = ["production"]
    with pytest.raises(openai.ConflictError, match=f"the registry's alias {job}@production holds it"):
        await owner.models.delete(name)
    with pytest.raises(openai.ConflictError, match="production"):
        await owner.models.delete(model)
    assert (await owner.models.delete(f"{model}:ckpt-step-2")).deleted
    cluster.held_aliases.clear()
    assert (await owner.models.delete(name)).deleted
    with pytest.raises(openai.NotFoundError):
        await ask(owner, name)
    await work.step()
    assert cluster.deleted == [
        f"application {job}-step-2", f"version {job}/2", f"files {job}/2",
        f"application {job}-step-3", f"version {job}/3", f"files {job}/3",
    ]  # fmt: skip
    assert cluster.applications == {job: model}
    assert await ask(owner, model) == "tuned"
    assert len(await listed(owner, job)) == 3


@with_checkpoints
async def test_the_model_of_a_job_is_deleted_with_its_checkpoints(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    names = [f"{model}:ckpt-step-2", f"{model}:ckpt-step-3", model]
    going_on = await owner.fine_tuning.jobs.create(model=names[0], training_file=await upload(owner))
    with pytest.raises(openai.ConflictError, match=f"its checkpoint {names[0]} is used: the job {going_on.id} goes on"):
        await owner.models.delete(model)
    await owner.fine_tuning.jobs.cancel(going_on.id)
    await owner.models.delete(model)
    for name in names:
        with pytest.raises(openai.NotFoundError):
            await ask(owner, name)
    await work.step()
    applications = [f"application {job}-step-2", f"application {job}-step-3", f"application {job}"]
    assert cluster.deleted == [*applications, f"versions {job}", f"files {job}"]
    assert cluster.applications == {}
    assert (await owner.models.list()).data == []


@with_checkpoints
async def test_an_alias_that_is_set_meanwhile_keeps_all_checkpoints(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job, model = await tune(work, owner)
    await owner.models.delete(model)
    cluster.held_aliases[f"{job}/2"] = ["production"]
    await work.step()
    assert cluster.deleted == []
    for name in (model, f"{model}:ckpt-step-2", f"{model}:ckpt-step-3"):
        assert await ask(owner, name) == "tuned"


@with_checkpoints
async def test_a_checkpoint_that_cannot_be_served_is_left_out(work: Work, cluster: ClusterInProcess) -> None:
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job = await owner.fine_tuning.jobs.create(model=BASE, training_file=await upload(owner))
    while not cluster.live_runs():
        await work.step()
    cluster.finish(cluster.live_runs()[0])
    (Path(cluster.earlier[job.id][0].checkpoint) / "manifest.json").unlink()
    await work.run()
    job = await owner.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded"
    assert [each.step_number for each in await listed(owner, job.id)] == [4, 3]
    assert set(cluster.applications) == {job.id, f"{job.id}-step-3"}
    events = [event.message async for event in owner.fine_tuning.jobs.list_events(job.id, limit=100)]
    assert any(message.startswith("The checkpoint of step 2 cannot be used:") for message in events)


@with_checkpoints
async def test_a_cancelled_publication_leaves_no_checkpoint(work: Work, cluster: ClusterInProcess) -> None:
    """The cluster answers no more when the first checkpoints are served; then the client cancels the job."""
    owner = work.platform.sdk(work.platform.create_key("owner"))
    job = await owner.fine_tuning.jobs.create(model=BASE, training_file=await upload(owner))
    while not cluster.live_runs():
        await work.step()
    cluster.finish(cluster.live_runs()[0])
    cluster.failing_starts = {job.id}
    await work.step()
    await work.step()
    assert set(cluster.applications) == {f"{job.id}-step-2", f"{job.id}-step-3"}
    await owner.fine_tuning.jobs.cancel(job.id)
    await work.run()
    assert cluster.applications == {}
    assert cluster.deleted[-2:] == [f"versions {job.id}", f"files {job.id}"]
    assert (await owner.models.list()).data == []
