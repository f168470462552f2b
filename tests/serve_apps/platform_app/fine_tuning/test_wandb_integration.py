"""The integration with Weights & Biases through the unmodified OpenAI SDK, where it is configured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.serve_apps.platform_app.conftest import error_of
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, NoDeployedModels, Work, base_options, upload
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.storage.sql.location import SqlLocation

INTEGRATION: Any = {"type": "wandb", "wandb": {"project": "support bot", "tags": ["first"]}}


@pytest.fixture
def work(cluster: ClusterInProcess, sql_location: SqlLocation, tmp_path: Path) -> Iterator[Work]:
    """A deployment with `platform.wandb`."""
    options: dict[str, Any] = {"wandb": {"entity": "team"}, **base_options(tmp_path)}
    with open_platform(
        sql_location, tmp_path, cluster=cluster.services, directory=NoDeployedModels(), **options
    ) as platform:
        yield Work(platform, cluster)


@pytest.fixture
def client(work: Work) -> openai.AsyncOpenAI:
    return work.platform.sdk()


async def create(client: openai.AsyncOpenAI, *integrations: Any) -> FineTuningJob:
    return await client.fine_tuning.jobs.create(
        model=BASE, training_file=await upload(client), integrations=list(integrations)
    )


async def test_a_job_shows_its_run_and_tells_of_it_once(
    work: Work, cluster: ClusterInProcess, client: openai.AsyncOpenAI
) -> None:
    job = await create(client, INTEGRATION)
    FineTuningJob.model_validate(job.model_dump(), strict=True)
    await work.step()
    await work.step()
    (run_id,) = cluster.live_runs()
    sent = FinetuneConfig.model_validate(cluster.runs[run_id].config).wandb
    assert sent is not None
    assert (sent.project, sent.entity, sent.tags, sent.run_id) == ("support bot", "team", ("first",), job.id)
    cluster.train(run_id)
    cluster.tags[job.id] = {"wandb.run": "https://wandb.example/runs/1"}
    for _ in range(3):
        cluster.train(run_id)
        await work.step()
    cluster.tags[job.id]["wandb.warning"] = "the server is lost"
    await work.run(4)
    job = await client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    assert job.to_dict()["integrations"] == [
        {
            "type": "wandb",
            "wandb": {"project": "support bot", "entity": None, "name": None, "tags": ["first"], "run_id": job.id},
        }
    ]
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id, limit=100)]
    told = [(event.level, event.message) for event in reversed(events) if "Weights & Biases" in event.message]
    assert told == [
        ("info", "Weights & Biases shows the metrics in the project support bot: https://wandb.example/runs/1"),
        ("warn", "Weights & Biases may lack metrics of this job: the server is lost. The job goes on without it."),
    ]


async def test_a_job_without_the_integration_sends_nothing(
    work: Work, cluster: ClusterInProcess, client: openai.AsyncOpenAI
) -> None:
    await create(client)
    await work.step()
    await work.step()
    (run_id,) = cluster.live_runs()
    assert cluster.runs[run_id].config["wandb"] is None


async def test_what_is_refused_is_refused_by_name(client: openai.AsyncOpenAI) -> None:
    project = "integrations.0.wandb.project"
    refused: list[tuple[list[Any], str, str]] = [
        ([INTEGRATION, INTEGRATION], "unsupported", "integrations"),
        ([{"type": "wandb", "wandb": {"project": "a/b"}}], "invalid_value", project),
        ([{"type": "wandb", "wandb": {"project": ""}}], "invalid_value", project),
    ]
    for integrations, code, param in refused:
        with pytest.raises(openai.BadRequestError) as error:
            await create(client, *integrations)
        assert error_of(error.value)[1:] == (code, param), integrations
