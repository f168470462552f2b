"""/v1/runs and /v1/model_versions: of a real registry and real run folders, for administrators only."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serve_apps.platform_app.fine_tuning.records.states import RunState
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, upload
from tests.serve_apps.platform_app.platform_under_test import ADMIN_KEY, PlatformUnderTest
from tests.serve_apps.platform_app.runs.run_world import RunWorld
from tuneyard.api.wire.platform_api.runs import RunCurves, RunDetails, RunList, VersionList
from tuneyard.storage.audit_log import AuditLog

PATHS = ("/v1/runs", "/v1/runs/some", "/v1/runs/some/metrics", "/v1/model_versions")


@pytest.fixture
async def admin(both: tuple[RunWorld, PlatformUnderTest]) -> AsyncIterator[httpx.AsyncClient]:
    async with both[1].http(ADMIN_KEY) as client:
        yield client


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", PATHS)
async def test_only_the_administrators_key_opens_the_routes(
    both: tuple[RunWorld, PlatformUnderTest], path: str
) -> None:
    platform = both[1]
    for secret in ("", "wrong", platform.create_key("someone")):
        async with platform.http(secret) as client:
            refused = await client.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "admin_key_required")


async def test_a_cluster_without_runs(admin: httpx.AsyncClient) -> None:
    for path in ("/v1/runs", "/v1/model_versions"):
        assert await get(admin, path) == {
            "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False, "problems": [],
        }  # fmt: skip
    for path in ("/v1/runs/none", "/v1/runs/none/metrics"):
        missing = await admin.get(path)
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")


async def test_a_run_that_trains(world: RunWorld, admin: httpx.AsyncClient) -> None:
    run_id = world.begin("first")
    world.job("first", RunState.RUNNING, started_at=world.now - 5)
    world.log(run_id, range(1, 11), total=40)
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert (run.id, run.name, run.model, run.status, run.job) == (run_id, "first", "brindle", "running", "raysubmit_0")
    assert (run.step, run.total_steps, run.progress) == (10, 40, 0.25)
    assert run.metrics["loss"] == pytest.approx(0.8)
    assert run.estimated_finish is not None
    details = RunDetails.model_validate(await get(admin, f"/v1/runs/{run_id}"))
    assert details.problems == ()
    assert details.config is not None
    assert details.config["run"]["name"] == "first"
    assert details.data is not None
    assert (details.data.train.chats, details.data.heldout and details.data.heldout.chats) == (3, 1)
    text = "".join(piece.text for piece in details.data.preview[0].pieces if piece.trained)
    assert "Hold the **back** button" in text
    assert "\U0001f408" in text
    assert "How do I reset" not in text
    assert await get(admin, "/v1/runs/raysubmit_0") == details.model_dump(mode="json")


async def test_curves_grow_while_the_run_trains(world: RunWorld, admin: httpx.AsyncClient) -> None:
    run_id = world.begin("first")
    world.job("first", RunState.RUNNING)
    assert (await get(admin, f"/v1/runs/{run_id}/metrics"))["last_step"] is None
    world.log(run_id, range(1, 11), total=40)
    time.sleep(1.1)  # for longer than an answer is kept
    curves = RunCurves.model_validate(await get(admin, f"/v1/runs/{run_id}/metrics"))
    by_name = {curve.name: curve for curve in curves.curves}
    assert by_name["loss"].steps == tuple(range(1, 11))
    assert by_name["eval_loss"].steps == (5, 10)
    world.log(run_id, range(9, 21), total=40)  # the workers started again
    time.sleep(1.1)
    curves = RunCurves.model_validate(await get(admin, f"/v1/runs/{run_id}/metrics", max_points=4))
    by_name = {curve.name: curve for curve in curves.curves}
    assert curves.last_step == 20
    assert by_name["loss"].steps == (1, 8, 15, 20)
    for bad in (1, 5001, "many"):
        assert (await admin.get(f"/v1/runs/{run_id}/metrics", params={"max_points": bad})).status_code == 400


async def test_who_reads_the_text_of_a_run_is_in_the_audit_log(
    world: RunWorld, admin: httpx.AsyncClient, tmp_path: Path
) -> None:
    run_id = world.begin("first")
    world.job("first", RunState.RUNNING)
    for path in ("/v1/runs", f"/v1/runs/{run_id}/metrics", "/v1/model_versions"):
        await get(admin, path)
    assert (await admin.get("/v1/runs/none")).status_code == 404
    log = AuditLog(tmp_path / "audit.jsonl")
    assert list(log.events()) == []
    for name in (run_id, "raysubmit_0", run_id):
        await get(admin, f"/v1/runs/{name}")
    assert [(event.action, event.target, event.actor) for event in log.events()] == [("run.read", run_id, "admin key")]


async def test_a_job_that_failed_before_it_trained(world: RunWorld, admin: httpx.AsyncClient) -> None:
    world.job("broken", RunState.FAILED, message="data.train: no such file", started_at=100.0, ended_at=103.0)
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert (run.id, run.name, run.model, run.status) == ("raysubmit_0", "broken", None, "failed")
    assert (run.message, run.started_at, run.finished_at) == ("data.train: no such file", 100, 103)
    details = RunDetails.model_validate(await get(admin, "/v1/runs/raysubmit_0"))
    assert (details.config, details.data, details.params) == (None, None, {})
    assert (await get(admin, "/v1/runs/raysubmit_0/metrics"))["curves"] == []


async def test_a_fine_tuning_job_that_waits(both: tuple[RunWorld, PlatformUnderTest], admin: httpx.AsyncClient) -> None:
    sdk = both[1].sdk(both[1].create_key("someone"))
    job = await sdk.fine_tuning.jobs.create(model=BASE, training_file=await upload(sdk))
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert (run.id, run.name, run.status, run.started_at) == (job.id, job.id, "queued", job.created_at)
    await sdk.fine_tuning.jobs.cancel(job.id)
    time.sleep(1.1)
    assert (await get(admin, "/v1/runs"))["data"] == []


async def test_without_rays_job_server_the_registry_still_answers(world: RunWorld, admin: httpx.AsyncClient) -> None:
    world.log(world.begin("first"), [1], total=4)
    world.jobs.problem = "no server listens there"
    answer = RunList.model_validate(await get(admin, "/v1/runs"))
    assert [run.status for run in answer.data] == ["running"]
    assert answer.problems == ("Ray's jobs are not known: no server listens there",)
    world.now += 3600
    time.sleep(1.1)
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert run.status == "silent"
    assert run.message is not None
    assert "nothing for 60 minutes" in run.message


async def test_versions_have_their_lineage(world: RunWorld, admin: httpx.AsyncClient) -> None:
    run_id = world.begin("first")
    tags = {
        "run_name": "first",
        "base_name": "tiny",
        "metric.eval_loss": "0.9",
        "metric.odd": "?",
        "git_commit": "none",
    }
    world.registry.register("brindle", world.folder / "models" / "1", run_id, tags)
    world.registry.register("brindle", world.folder / "models" / "2", None, {"kind": "adapter"}, alias="production")
    world.registry.end_run(run_id, succeeded=True)
    world.serve("support", "brindle/1", "brindle@newest")
    second, first = VersionList.model_validate(await get(admin, "/v1/model_versions")).data
    assert (first.id, first.kind, first.aliases, first.metrics) == (
        "brindle/1",
        "model",
        ("newest",),
        {"eval_loss": 0.9},
    )
    assert (first.lineage.run, first.lineage.run_name, first.lineage.git_commit) == (run_id, "first", None)
    assert (second.id, second.kind, second.aliases, second.lineage.run) == (
        "brindle/2", "adapter", ("production",), None,
    )  # fmt: skip
    assert [(by.model, by.reference) for by in first.served_by] == [("support", "brindle@newest")]
    assert second.served_by == ()
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert (run.status, run.version) == ("succeeded", "brindle/1")


async def test_the_version_of_a_run_is_its_last_checkpoint(world: RunWorld, admin: httpx.AsyncClient) -> None:
    """Whichever of its checkpoints it has registered last."""
    run_id = world.begin("first")
    for version, step in enumerate((12, 4, 8), 1):
        folder = world.folder / "models" / str(version)
        world.registry.register("brindle", folder, run_id, {"metric.step": str(step)}, "newest" if step == 12 else None)
    world.registry.end_run(run_id, succeeded=True)
    (run,) = RunList.model_validate(await get(admin, "/v1/runs")).data
    assert run.version == "brindle/1"


async def test_lists_are_read_in_pages(world: RunWorld, admin: httpx.AsyncClient) -> None:
    for number in range(5):
        world.job(f"run-{number}", RunState.STOPPED, started_at=float(number))
    names: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await get(admin, "/v1/runs", limit=2, **after)
        names += [run["name"] for run in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert names == [f"run-{number}" for number in (4, 3, 2, 1, 0)]
    for bad in ({"after": "gone"}, {"limit": 0}, {"order": "asc"}, {"page": 1}):
        assert (await admin.get("/v1/runs", params=bad)).status_code == 400


async def test_what_cannot_be_read_is_said_and_secrets_are_hidden(world: RunWorld, admin: httpx.AsyncClient) -> None:
    run_id = world.begin("first")
    folder = world.folder / "storage" / "runs" / "first"
    config = json.loads((folder / "config.json").read_text())
    config["model"]["base"] = "s3://key:word@bucket/base?secret_key=abc"
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "data.json").write_text("{")
    details = await get(admin, f"/v1/runs/{run_id}")
    assert details["config"]["model"]["base"] == "s3://(set)@bucket/base?secret_key=(set)"
    assert details["problems"] == [f"{folder}/data.json is damaged, or of another release."]
    shutil.rmtree(folder)
    details = await get(admin, f"/v1/runs/{run_id}")
    assert details["config"] is None
    assert "holds no files of a run here" in details["problems"][0]


async def test_a_loss_that_is_not_finite_is_no_number(world: RunWorld, admin: httpx.AsyncClient) -> None:
    run_id = world.begin("first")
    world.registry.log_points(run_id, [(1, {"loss": 1.0}), (2, {"loss": float("nan")}), (3, {"loss": float("inf")})])
    (curve,) = (await get(admin, f"/v1/runs/{run_id}/metrics"))["curves"]
    assert curve["values"][0] == 1.0
    (run,) = (await get(admin, "/v1/runs"))["data"]
    assert run["step"] == 3
