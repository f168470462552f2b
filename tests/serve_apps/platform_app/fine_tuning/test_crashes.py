"""Whatever dies, and whenever: every job ends in the state that its client was told or can ask; nothing is left over.

Processes of the API and the reconciler die between any two calls, clients ask between any two calls of the reconciler,
runs are killed, answers of the cluster are lost, the database dies between any two calls or before it has said that it
did what it was asked for, and the whole cluster is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from sqlalchemy import select

from serve_apps.http_front.access import Access
from serve_apps.keys.key_gate import KeyGate
from serve_apps.platform_app.context import PlatformContext
from serve_apps.platform_app.files.tables import FILE_USES, FILES
from serve_apps.platform_app.fine_tuning.building import build_fine_tuning
from serve_apps.platform_app.fine_tuning.job_service import JobService
from serve_apps.platform_app.fine_tuning.part import FineTuningPart
from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.job_store import JobStore
from serve_apps.platform_app.fine_tuning.records.states import TERMINAL, RunState
from serve_apps.platform_app.fine_tuning.settings.bases import Bases
from serve_apps.platform_app.store.platform_database import open_database
from serve_apps.platform_app.tuned_models.model_record import checkpoint_model_id
from serve_apps.platform_app.tuned_models.model_store import ModelStore
from serve_apps.platform_app.tuned_models.part import CHECK_INTERVAL_S, TunedModelsPart
from serve_apps.platform_app.tuned_models.tables import LIVE
from tests.serve_apps.platform_app.fine_tuning.cluster_in_process import ClusterInProcess
from tests.serve_apps.platform_app.fine_tuning.mortal_process import Killed, Mortality, Outage
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, NoDeployedModels, base_options, chat_rows
from tuneyard.api.api_keys import ApiKey
from tuneyard.api.wire.platform_api.fine_tuning import CreateJobRequest
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.errors import RequestError, StoreUnavailableError, TuneyardError
from tuneyard.storage.sql.location import SqlLocation

OWNERS = ("first owner", "second owner")
DEATHS = st.none() | st.integers(min_value=0, max_value=25)
"""After how many begun or ended calls a process dies."""
OUTAGES = st.builds(Outage, st.integers(0, 12), st.integers(1, 4), st.booleans())
WISHES = st.sampled_from(("cancel", "pause", "resume"))

CALLS = st.builds(
    "{} {}".format,
    st.sampled_from(("before", "after")),
    st.sampled_from(
        (
            "unfinished",
            "change",
            "check",
            "submit",
            "find",
            "stop",
            "result",
            "prepare",
            "start",
            "remove",
            "delete",
            "delete_version",
            "forget",
        )
    ),
)
"""Calls of the reconciler at which something else happens."""

SETTLING_STEPS = 80
SHARED_MEMORY = Path("/dev/shm")


def api_key(owner: str) -> ApiKey:
    return ApiKey(id=owner, name=owner, sha256=owner, created_at="2026-01-01T00:00:00Z")  # type: ignore[arg-type]


class Tuning(RuleBasedStateMachine):
    """Clients, processes of the application and a cluster, all of which may do anything at any time."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # In memory where that is possible: a disk takes longer for the thousands of transactions than all else.
        self.folder = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        self.cluster = ClusterInProcess(steps=2)
        self.database = open_database(SqlLocation(file=self.folder / "db"))
        config = PlatformConfig(
            path=self.folder / "db",
            files=str(self.folder / "files"),
            max_running_jobs=2,
            max_active_jobs_per_key=None,
            **base_options(self.folder, checkpoints=3),
        )
        self.context = PlatformContext.open(config, Access(), KeyGate(None), NoDeployedModels(), self.database)
        self.told: dict[str, str] = {}
        self.owners: dict[str, str] = {}
        self.deleted: set[str] = set()
        self.deleted_checkpoints: set[str] = set()
        self.requests = 0
        self.now = 1.0
        self.process: tuple[Mortality, FineTuningPart, TunedModelsPart] | None = None

    @initialize()
    def upload(self) -> None:
        self.files = {owner: self.wait(self.create_file(owner, chat_rows(5))) for owner in OWNERS}
        self.broken = {owner: self.wait(self.create_file(owner, b"broken\n")) for owner in OWNERS}

    @rule(
        target=jobs,
        owner=st.sampled_from(OWNERS),
        is_broken=st.booleans(),
        deaths=st.lists(DEATHS, max_size=2),
        outage=st.none() | OUTAGES,
    )
    def create(self, owner: str, is_broken: bool, deaths: list[int | None], outage: Outage | None) -> str:
        """The client repeats the request, with the same Idempotency-Key, until it gets an answer."""
        self.requests += 1
        request = CreateJobRequest(model=BASE, training_file=(self.broken if is_broken else self.files)[owner])
        for calls_left in (*deaths, *[None] * 6):
            mortality = Mortality(calls_left)
            mortality.outage = outage
            service = self.service(mortality)
            with contextlib.suppress(Killed, StoreUnavailableError):
                job = self.wait(service.create(api_key(owner), request, f"request {self.requests}"))
                self.owners[job.id] = owner
                self.told[job.id] = job.state.status
                return job.id
        raise AssertionError("a process that does not die gave no answer")

    @rule(job=jobs, wish=WISHES, calls_left=DEATHS, outage=st.none() | OUTAGES)
    def ask_for(self, job: str, wish: str, calls_left: int | None, outage: Outage | None) -> None:
        """The client may get no answer, and then knows nothing."""
        mortality = Mortality(calls_left)
        mortality.outage = outage
        with contextlib.suppress(Killed):
            self.wait(self.request(job, wish, mortality))

    async def request(self, job: str, wish: str, mortality: Mortality) -> None:
        """A client's request, which may be refused."""
        with contextlib.suppress(RequestError):
            self.tell(await getattr(self.service(mortality), wish)(self.owners[job], job))

    @rule(job=jobs)
    def ask(self, job: str) -> None:
        self.tell(self.find(job))

    @rule(job=consumes(jobs), is_held=st.booleans())
    def delete_model(self, job: str, is_held: bool) -> None:
        record = self.find(job)
        if record.fine_tuned_model is None:
            return
        _, _, models = self.new_process(Mortality())
        if is_held:
            self.cluster.held_aliases[job] = ["production"]
        with contextlib.suppress(RequestError):
            self.wait(models.delete(self.owners[job], record.fine_tuned_model))
            assert not is_held, "a model that an alias holds was deleted"
            self.deleted.add(job)

    @rule(job=jobs, is_held=st.booleans())
    def delete_checkpoint(self, job: str, is_held: bool) -> None:
        """Deletes the model of the job's first checkpoint, and not the job's."""
        _, _, models = self.new_process(Mortality())
        for checkpoint in ModelStore(self.database).checkpoints_of(job):
            if is_held and checkpoint.state == LIVE:
                self.cluster.held_aliases[checkpoint.version] = ["production"]
            with contextlib.suppress(RequestError):
                self.wait(models.delete(self.owners[job], checkpoint.name))
                assert not is_held, "a checkpoint that an alias holds was deleted"
                self.deleted_checkpoints.add(job)

    @rule(calls_left=DEATHS, parts=st.sampled_from(("both", "jobs", "models")))
    def reconcile(self, calls_left: int | None, parts: str) -> None:
        mortality, jobs, models = self.process = self.process or self.new_process(Mortality())
        mortality.calls_left = calls_left
        self.now += CHECK_INTERVAL_S
        for part in {"both": (jobs, models), "jobs": (jobs,), "models": (models,)}[parts]:
            # As the Reconciler does, which logs errors and calls again.
            with contextlib.suppress(Killed, TuneyardError):
                self.wait(part.reconcile(self.now))
            self.wait(jobs.settle())
        if mortality.is_dead:
            self.process = None

    @rule(outage=OUTAGES, calls_left=DEATHS)
    def reconcile_while_the_database_dies(self, outage: Outage, calls_left: int | None) -> None:
        mortality, _, _ = self.process = self.process or self.new_process(Mortality())
        mortality.outage = outage
        self.reconcile(calls_left, "both")
        mortality.outage = None

    @rule(job=jobs, wishes=st.lists(WISHES, min_size=1, max_size=2), call=CALLS, calls_left=DEATHS)
    def reconcile_while_a_client_asks(self, job: str, wishes: list[str], call: str, calls_left: int | None) -> None:
        """The reconciler has read the job, and does not know what the client wishes meanwhile."""
        mortality, _, _ = self.process = self.process or self.new_process(Mortality())

        async def ask(subject: Any) -> None:
            name = str(getattr(subject, "id", subject))
            affected = next((known for known in self.owners if name.startswith(known)), job)
            for wish in wishes:
                await self.request(affected, wish, Mortality())

        mortality.interrupt(call, ask)
        self.reconcile(calls_left, "both")
        mortality.interrupt("", None)

    @rule(call=CALLS, calls_left=DEATHS)
    def reconcile_beside_another_process(self, call: str, calls_left: int | None) -> None:
        """This process was held up until another one had the lease, which does a whole step; then this one goes on."""
        mortality, _, _ = self.process = self.process or self.new_process(Mortality())

        async def take_a_step(_: Any) -> None:
            _, jobs, models = self.new_process(Mortality())
            for part in (jobs, models):
                with contextlib.suppress(TuneyardError):
                    await part.reconcile(self.now)
                await jobs.settle()

        mortality.interrupt(call, take_a_step)
        self.reconcile(calls_left, "both")
        mortality.interrupt("", None)

    @rule(data=st.data())
    def train(self, data: st.DataObject) -> None:
        if runs := self.cluster.live_runs():
            self.cluster.train(data.draw(st.sampled_from(runs)))

    @rule(data=st.data(), end=st.sampled_from(("killed", "failed", "stopped")))
    def end_run(self, data: st.DataObject, end: str) -> None:
        if not (runs := self.cluster.live_runs()):
            return
        run_id = data.draw(st.sampled_from(runs))
        match end:
            case "killed":
                self.cluster.kill_driver(run_id)
            case "failed":
                self.cluster.fail(run_id, "an error of its own")
            case "stopped":
                self.cluster.runs[run_id].state = RunState.STOPPED

    @rule(stops_slowly=st.booleans(), silent_calls=st.integers(0, 3), lost_answers=st.integers(0, 2))
    def overload_cluster(self, stops_slowly: bool, silent_calls: int, lost_answers: int) -> None:
        self.cluster.stops_slowly = stops_slowly
        self.cluster.silent_calls, self.cluster.lost_answers = silent_calls, lost_answers

    @rule()
    def restart_cluster(self) -> None:
        self.cluster.kill_head()
        self.process = None

    @rule(is_down=st.booleans())
    def lose_cluster(self, is_down: bool) -> None:
        self.cluster.is_down = is_down

    @invariant()
    def one_run_of_a_job_at_a_time(self) -> None:
        jobs = [run_id.rpartition("-")[0] for run_id in self.cluster.live_runs()]
        assert len(jobs) == len(set(jobs))
        assert not self.cluster.violations

    def teardown(self) -> None:
        try:
            self.settle()
            self.check()
        finally:
            self.database.close()
            self.loop.close()
            shutil.rmtree(self.folder)

    def settle(self) -> None:
        """Nothing dies any more; runs train to their end."""
        self.cluster.is_down = False
        self.cluster.silent_calls = self.cluster.lost_answers = 0
        self.process = None
        for _ in range(SETTLING_STEPS):
            self.reconcile(None, "both")
            for run_id in self.cluster.live_runs():
                self.cluster.finish(run_id)
            jobs = JobStore(self.database).unfinished()
            if all(job.state.status == "paused" and job.state.execution == "none" for job in jobs):
                break
        self.reconcile(None, "both")

    def check(self) -> None:
        with self.database.reading() as connection:
            uses = {row.used_by for row in connection.execute(select(FILE_USES))}
            files = {row.id for row in connection.execute(select(FILES))}
        results = set()
        for job_id in self.owners:
            job = self.find(job_id)
            self.tell(job)
            assert (job.state.status, job.state.execution) == ("paused", "none") or (
                job.state.status in TERMINAL and job.state.execution == "done"
            ), f"{job_id} is stuck: {job.state}"
            assert (job_id in uses) == (job.state.status == "paused")
            has_model = job.state.status == "succeeded" and job_id not in self.deleted
            folder = self.folder / "storage" / "fine_tuning" / job_id
            assert (job_id in self.cluster.applications) == has_model
            checkpoint = checkpoint_model_id(job_id, 1)
            has_checkpoint = has_model and job_id not in self.deleted_checkpoints
            assert (checkpoint in self.cluster.applications) == has_checkpoint
            if has_model:
                assert bool(self.cluster.earlier[job_id]) == has_checkpoint
                assert (folder / "models" / job_id / "2").exists() == has_checkpoint
            records = [model.id for model in ModelStore(self.database).checkpoints_of(job_id)]
            assert records == ([checkpoint] if has_checkpoint else [])
            assert (job_id in self.cluster.versions) == has_model or job.state.status == "paused"
            assert folder.exists() == has_model or job.state.status == "paused"
            if job.state.status == "succeeded":
                results.add(job.result_file)
        inputs = {*getattr(self, "files", {}).values(), *getattr(self, "broken", {}).values()}
        assert files == inputs | results
        contents = [path.name for path in (self.folder / "files").rglob("*") if path.is_file()]
        assert sorted(name.rpartition("-")[0] for name in contents) == sorted(files)
        assert self.cluster.live_runs() == []

    def new_process(self, mortality: Mortality) -> tuple[Mortality, FineTuningPart, TunedModelsPart]:
        context = mortality.context(self.context)
        jobs, models = build_fine_tuning(context, mortality.cluster(self.cluster.services), lambda: self.now)
        assert isinstance(jobs, FineTuningPart)
        assert isinstance(models, TunedModelsPart)
        return mortality, jobs, models

    def service(self, mortality: Mortality) -> JobService:
        context = mortality.context(self.context)
        return JobService(JobStore(context.database), context.files, Bases(context.config), context.config)

    def find(self, job: str) -> JobRecord:
        return JobStore(self.database).find(self.owners[job], job)

    def tell(self, job: JobRecord) -> None:
        """The client learns the status. It never changes again once it was told that the job has ended."""
        before = self.told.get(job.id)
        assert before not in TERMINAL or before == job.state.status
        self.told[job.id] = job.state.status

    async def create_file(self, owner: str, content: bytes) -> str:
        async def blocks() -> Any:
            yield content

        return (await self.context.files.create(owner, "fine-tune", "chats.jsonl", blocks())).id

    def wait(self, awaitable: Any) -> Any:
        return self.loop.run_until_complete(awaitable)


FAST = settings(max_examples=12, stateful_step_count=20, suppress_health_check=list(HealthCheck))
Tuning.TestCase.settings = FAST
TestTuning = Tuning.TestCase


@pytest.mark.long
def test_many_more_histories() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    long = settings(max_examples=300, stateful_step_count=50, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Tuning, settings=long)
