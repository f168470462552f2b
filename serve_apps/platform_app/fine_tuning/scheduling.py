"""Which queued jobs begin next: in turn between the owners, within the limit of jobs that run at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from serve_apps.platform_app.fine_tuning.records.job_record import JobRecord
from serve_apps.platform_app.fine_tuning.records.states import OCCUPYING


def is_waiting(job: JobRecord) -> bool:
    """Whether the job is in the queue, with nothing left of an attempt before."""
    return job.state.status == "queued" and job.state.execution == "none"


def choose_next(jobs: Sequence[JobRecord], max_running: int) -> list[JobRecord]:
    """The jobs to begin now, of all unfinished ones.

    Of several owners the one with the fewest running jobs is next, and of those the one whose job is the oldest; of an
    owner's jobs the oldest.
    """
    running = Counter(job.owner for job in jobs if job.state.execution in OCCUPYING)
    waiting = [job for job in jobs if is_waiting(job)]
    chosen: list[JobRecord] = []
    for _ in range(max_running - running.total()):
        if not waiting:
            break
        job = min(waiting, key=lambda job: (running[job.owner], job.id))
        waiting.remove(job)
        running[job.owner] += 1
        chosen.append(job)
    return chosen
