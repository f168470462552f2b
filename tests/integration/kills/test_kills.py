"""kill -9 of the API, the reconciler, drivers, workers and the whole node, while two keys' jobs and batches run; with
records in SQLite, and in a PostgreSQL server that is killed too.

At the end every job is in the state that its owner was told; none exists or trains twice; every request of a batch has
one result; no file, model, application or run is left over. Each part of ten jobs and two batches runs alone too:

    make test-long ARGS="tests/integration/kills -k sqlite-part-2"

TUNEYARD_KILLS names a folder for the logs of kills, to which all runs add theirs.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.platform_app.store.lease import LEASE_S
from tests.integration.conftest import Finetuned
from tests.integration.kills.checks import check, report
from tests.integration.kills.customers import NoAnswerError
from tests.integration.kills.kill_log import DATABASE_ALONE, KillLog
from tests.integration.kills.plan import Plan
from tests.integration.kills.platform_cluster import platform_cluster
from tests.integration.kills.record_store import open_record_store
from tests.integration.kills.scene import Scene

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]

PARTS = {"sqlite": 5, "postgresql": 2}
"""Parts by the store of the records."""

RUNS = [pytest.param(store, part, id=f"{store}-part-{part}") for store, parts in PARTS.items() for part in range(parts)]
DEADLINE_S = 600.0


@pytest.fixture(scope="module")
def scene(
    request: pytest.FixtureRequest, finetuned: Finetuned, tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("kills")
    log = Path(os.environ.get("TUNEYARD_KILLS", folder))
    log.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_record_store(request.param, folder))
        cluster = stack.enter_context(platform_cluster(folder, tiny_oss, finetuned.checkpoint, store.config))
        scene = Scene(cluster, store, KillLog(log / f"{store.name}.jsonl"))
        stack.enter_context(scene.log.watching())
        stack.callback(scene.outages.wait)
        yield scene


@pytest.mark.parametrize(("scene", "part"), RUNS, indirect=["scene"])
def test_no_job_is_lost_doubled_or_orphaned(scene: Scene, part: int, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(part)
    plan = Plan(scene, part)
    while not plan.is_done:
        if not plan.do_next():
            look_around(scene, dice)
    scene.outages.wait()
    wait_until_all_have_ended(scene, dice)
    delete_models(scene, dice)
    wait_until_nothing_is_left_to_do(scene)
    kill_database_alone(scene)
    check(scene)
    with capsys.disabled():
        print(f"\n\n{report(scene)}\n")


def look_around(scene: Scene, dice: random.Random) -> None:
    """An owner asks for one of its jobs."""
    if open_jobs := [(customer, job) for customer, job in scene.jobs if not job.has_ended]:
        customer, job = dice.choice(open_jobs)
        with contextlib.suppress(NoAnswerError):
            customer.look(job)
    time.sleep(0.2)


def wait_until_all_have_ended(scene: Scene, dice: random.Random) -> None:
    """Paused jobs are resumed."""
    deadline = time.monotonic() + DEADLINE_S
    while open_jobs := [(customer, job) for customer, job in scene.jobs if not job.has_ended]:
        assert time.monotonic() < deadline, [(job.id, job.told[-1]) for _, job in open_jobs]
        look_around(scene, dice)
        for customer, job in open_jobs:
            if job.told[-1] == "paused":
                with contextlib.suppress(NoAnswerError):
                    customer.wish(job, "resume")


def delete_models(scene: Scene, dice: random.Random) -> None:
    """Each owner deletes its models, all but one."""
    for customer in scene.customers:
        models = [job for job in customer.jobs if job.told[-1] == "succeeded" and not job.is_deleted]
        dice.shuffle(models)
        for job in models[1:]:
            name = customer.client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
            assert name is not None
            assert customer.client.models.delete(name).deleted
            job.is_deleted = True


def kill_database_alone(scene: Scene) -> None:
    """For less and for more than the reconciler's lease, while nothing else dies."""
    for end, down_s in ((signal.SIGKILL, 3.0), (signal.SIGQUIT, LEASE_S)) if scene.store.server is not None else ():
        assert scene.kill_database(end, down_s, kind=DATABASE_ALONE)
        scene.outages.wait()
        wait_until_nothing_is_left_to_do(scene)


def wait_until_nothing_is_left_to_do(scene: Scene) -> None:
    """Also what was killed goes on again."""
    open_work = (
        "SELECT id FROM fine_tuning_jobs WHERE execution != 'done'",
        "SELECT id FROM tuned_models WHERE state != 'live'",
        "SELECT id FROM batches WHERE NOT is_cleaned",
    )
    deadline = time.monotonic() + DEADLINE_S
    while left := [*(row for query in open_work for row in scene.store.rows(query)), *scene.log.open_kinds()]:
        assert time.monotonic() < deadline, f"still to do: {left}"
        time.sleep(0.5)
