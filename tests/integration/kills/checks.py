"""Compares the cluster with what its customers were told, and reports."""

from __future__ import annotations

from collections import Counter

from tests.integration.kills.customers import Customer
from tests.integration.kills.scene import Scene
from tests.integration.kills.scripted_finetune import FAILING, REAL, read_journal
from tuneyard.checkpoints.registry import ModelRegistry


def check(scene: Scene) -> None:
    """Nothing runs and nothing is left to do. All jobs and batches of all parts so far are compared."""
    cluster = scene.cluster
    registry = ModelRegistry(cluster.home)
    served = {model for customer in scene.customers for model in check_jobs(scene, customer, registry)}
    assert set(registry.names()) == served
    for customer in scene.customers:
        for batch_id in customer.batches:
            customer.check_batch(batch_id)
        assert {file.id for file in customer.client.files.list()} == customer.files
    contents = [path.name for path in (cluster.home / "platform" / "files").rglob("*") if path.is_file()]
    files = [file for customer in scene.customers for file in customer.files]
    # A content is named by its file and the attempt to write it.
    assert sorted(name.rpartition("-")[0] for name in contents) == sorted(files)
    assert scene.store.rows("SELECT * FROM file_uses") == []
    applications = cluster.ask("/api/serve/applications/")["applications"]
    assert {name for name in applications if name.startswith("ftjob-")} == served
    runs = [job for job in cluster.ask("/api/jobs/") if (job["submission_id"] or "").startswith("ftjob-")]
    assert {job["status"] for job in runs} <= {"SUCCEEDED", "FAILED", "STOPPED"}
    assert cluster.processes("driver") == []
    check_journal(scene)
    assert scene.store.server is None or scene.answers_without_database > 0


def check_jobs(scene: Scene, customer: Customer, registry: ModelRegistry) -> set[str]:
    """Each job exists once, has the end that its owner was told, and left what such an end leaves. Returns the jobs
    whose models are served."""
    served = set()
    listed = {job.id: job for job in customer.client.fine_tuning.jobs.list()}
    assert sorted(listed) == sorted(job.id for job in customer.jobs)
    for job in customer.jobs:
        found = listed[job.id]
        job.tell(found.status)
        assert found.status == "cancelled" or "cancel" not in job.granted
        assert found.status != "cancelled" or "cancel" in job.wishes
        assert found.status != "failed" or job.kind == FAILING, found.error
        assert found.status != "succeeded" or job.kind != FAILING
        customer.files.update(found.result_files)
        has_model = found.status == "succeeded" and not job.is_deleted
        folder = scene.cluster.home / "fine_tuning" / job.id
        assert folder.exists() == has_model, job
        assert len(registry.versions(job.id)) == has_model, job
        if has_model:
            assert [path.name for path in (folder / "models" / job.id).iterdir()] == ["1"]
            served.add(job.id)
    return served


def check_journal(scene: Scene) -> None:
    """No attempt of a job began while another one ran, and none did anything after the next one began."""
    last: dict[str, int] = {}
    for line in read_journal(scene.cluster.journal):
        if line["event"] == "begin":
            assert line["live"] == [], f"two runs of one job at once: {line}"
            last[line["job"]] = line["pid"]
        assert line["pid"] == last[line["job"]], f"a step of an attempt that is not the last one: {line}"


def report(scene: Scene) -> str:
    """What was killed and what followed, as Markdown."""
    jobs = [job for _, job in scene.jobs]
    ends = ", ".join(f"{count} {status}" for status, count in Counter(job.told[-1] for job in jobs).items())
    begun = Counter(line["job"] for line in read_journal(scene.cluster.journal) if line["event"] == "begin")
    real = sum(job.kind == REAL for job in jobs)
    batches = sum(len(customer.batches) for customer in scene.customers)
    unanswered = sum(customer.unanswered for customer in scene.customers)
    unavailable = sum(customer.unavailable for customer in scene.customers)
    return (
        f"{scene.store.name}\n\n{scene.log.table()}\n\n"
        f"{len(jobs)} jobs ({real} of them real): {ends}; {begun.total()} attempts, at most "
        f"{max(begun.values(), default=0)} of a job; {batches} batches; {unanswered} requests without an answer, "
        f"{unavailable} refused for want of the database, which {scene.answers_without_database} checks found right"
    )
