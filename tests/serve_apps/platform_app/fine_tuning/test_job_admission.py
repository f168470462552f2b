"""Jobs on a small, a busy and a growing cluster, through the unmodified OpenAI SDK."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import openai
import pytest

from serve_apps.platform_app.fine_tuning.execution.cluster_capacity import ClusterCapacity
from serve_apps.platform_app.fine_tuning.part import FineTuningPart
from serve_apps.platform_app.fine_tuning.settings.file_checks import FileCheck, FileReport
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.test_jobs_api import create, messages, retrieve
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import Work, base_options
from tests.serve_apps.platform_app.platform_under_test import open_platform
from tuneyard.storage.sql.location import SqlLocation

WAIT = "The job with 2 workers cannot be placed now: CPU: 2 needed, 1 available."


def capacity(total: float, unserved: float | None = None, free: float | None = None) -> ClusterCapacity:
    """Of one node, in CPUs."""
    left = total if unserved is None else unserved
    return ClusterCapacity([{"CPU": total}], [{"CPU": left}], [{"CPU": left if free is None else free}])


async def test_a_job_of_two_workers_runs_on_two_cpus(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    cluster.capacity = capacity(2, unserved=1.4)
    job = await create(client)
    await work.run()
    job = await retrieve(client, job)
    assert job.status == "succeeded"
    assert job.hyperparameters.batch_size == 4
    (run,) = cluster.runs.values()
    assert run.config["workers"]["num_workers"] == 1  # type: ignore[index]
    assert any("the job has 1 worker. Its steps have the same rows" in text for text in await messages(client, job))


async def test_a_job_that_no_cluster_can_hold_fails_and_says_what_is_missing(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    cluster.capacity = capacity(0.5)
    job = await create(client)
    await work.run()
    job = await retrieve(client, job)
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("insufficient_resources", None)
    assert "CPU: 2 needed, 0.5 available" in job.error.message
    assert not cluster.submitted


async def test_a_job_waits_in_the_queue_until_it_fits_and_is_told_why_once(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    cluster.capacity = capacity(2, free=1)
    job = await create(client)
    await work.run(5)
    job = await retrieve(client, job)
    assert job.status == "queued"
    assert not cluster.submitted
    told = [text for text in await messages(client, job) if text.startswith(WAIT)]
    assert told == [f"{WAIT} The job begins when other work on the cluster has ended."]
    events = [event async for event in client.fine_tuning.jobs.list_events(job.id)]
    assert (events[0].level, events[0].data) == ("warn", {"code": "insufficient_resources"})
    cluster.capacity = capacity(2)
    await work.run()
    assert (await retrieve(client, job)).status == "succeeded"


async def test_a_job_that_waits_can_be_cancelled_and_holds_no_other_up(
    sql_location: SqlLocation, tmp_path: Path, cluster: ClusterInProcess
) -> None:
    large, small = tmp_path / "large", tmp_path / "small"
    for folder in (large, small):
        folder.mkdir()
    bases = base_options(large)["bases"]
    small_base = base_options(small)["bases"]["tiny"] | {"aliases": ()}
    template = Path(small_base["config"])
    template.write_text(template.read_text(encoding="utf-8").replace("num_workers: 2", "num_workers: 1"), "utf-8")
    options = {"bases": bases | {"small": small_base}, "max_running_jobs": 1}
    cluster.capacity = capacity(2, free=1)
    with open_platform(sql_location, tmp_path, cluster=cluster.services, **options) as platform:
        work, client = Work(platform, cluster), platform.sdk()
        first, second = await create(client), await create(client, model="small")
        await work.run()
        assert (await retrieve(client, first)).status == "queued"
        assert (await retrieve(client, second)).status == "succeeded"
        await client.fine_tuning.jobs.cancel(first.id)
        await work.run()
        assert (await retrieve(client, first)).status == "cancelled"


async def test_two_jobs_do_not_begin_where_one_fits(
    sql_location: SqlLocation, tmp_path: Path, cluster: ClusterInProcess
) -> None:
    """What the first one requests counts before Ray has reserved it."""
    cluster.capacity = capacity(3)
    with open_platform(
        sql_location, tmp_path, cluster=cluster.services, max_running_jobs=2, **base_options(tmp_path)
    ) as platform:
        work, client = Work(platform, cluster), platform.sdk()
        first, second = await create(client), await create(client)
        for _ in range(4):
            await work.step()
        assert len(cluster.submitted) == 1
        assert "CPU: 4 needed, 3 available. The job begins when other jobs have ended." in (
            "\n".join(await messages(client, second))
        )
        await work.run()
        assert {(await retrieve(client, job)).status for job in (first, second)} == {"succeeded"}


@pytest.mark.parametrize("limit", [1.0, 64.0])
async def test_a_job_that_waits_for_nodes_begins_and_asks_for_them(
    sql_location: SqlLocation, tmp_path: Path, cluster: ClusterInProcess, limit: float
) -> None:
    options = base_options(tmp_path)
    template = Path(options["bases"]["tiny"]["config"])
    text = template.read_text(encoding="utf-8").replace("num_workers: 2", "num_workers: 2\n  wait_for_nodes: true")
    template.write_text(text, encoding="utf-8")
    node = [{"CPU": 1.0}]
    cluster.capacity = ClusterCapacity(node, node, node, {"CPU": limit})
    with open_platform(sql_location, tmp_path, cluster=cluster.services, **options) as platform:
        work, client = Work(platform, cluster), platform.sdk()
        job = await create(client)
        await work.run()
        job = await retrieve(client, job)
        if limit == 1.0:
            assert job.error is not None
            assert "with all nodes that its autoscaler may add: CPU: 2 needed, 1 available" in job.error.message
        else:
            assert job.status == "succeeded"
            assert any(text.startswith(WAIT) for text in await messages(client, job))


async def test_jobs_begin_again_when_the_cluster_answers(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    cluster.capacity = capacity(2, free=1)
    job = await create(client)
    await work.step()
    cluster.capacity, cluster.silent_calls = capacity(2), 1
    await work.step()
    assert cluster.silent_calls == 0
    assert not cluster.submitted
    await work.run()
    assert (await retrieve(client, job)).status == "succeeded"


async def test_a_job_with_small_files_begins_in_the_step_that_checks_them(
    work: Work, client: openai.AsyncOpenAI, cluster: ClusterInProcess
) -> None:
    job = await create(client)
    await work.step()
    assert cluster.submitted == [f"{job.id}-1"]
    assert (await retrieve(client, job)).status == "queued"


class SlowFirstCheck:
    """A FileChecker whose first check lasts until `end` is set."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self._is_first = True

    async def check(self, request: FileCheck) -> FileReport:  # noqa: ARG002  # see FileChecker
        is_first, self._is_first = self._is_first, False
        if is_first:
            await self.end.wait()
        return FileReport(12)

    def close(self) -> None:
        """Nothing runs."""


async def test_a_long_check_holds_no_other_job_up(
    sql_location: SqlLocation, tmp_path: Path, cluster: ClusterInProcess
) -> None:
    checker = SlowFirstCheck()
    services = dataclasses.replace(cluster.services, checker=checker)
    options = base_options(tmp_path)
    with open_platform(sql_location, tmp_path, cluster=services, max_running_jobs=2, **options) as platform:
        client = platform.sdk()
        first, second = await create(client), await create(client)
        (part,) = (part for part in platform.parts if isinstance(part, FineTuningPart))
        runs = {f"{first.id}-1", f"{second.id}-1"}
        for _ in range(100):  # on a busy machine the short check may take longer than a step waits for it
            await part.reconcile(1.0)
            if cluster.submitted:
                break
            await asyncio.sleep(0.05)  # the submission may still be on its way
        (quick,) = cluster.submitted  # either job's check may have been the first
        checker.end.set()
        await part.settle()
        await part.reconcile(2.0)
        await part.settle()
        assert cluster.submitted == [quick, *(runs - {quick})]
