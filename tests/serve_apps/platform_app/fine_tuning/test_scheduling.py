"""Queued jobs begin in turn between the owners."""

from __future__ import annotations

from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import given

from serve_apps.platform_app.fine_tuning.records.states import OCCUPYING, JobState
from serve_apps.platform_app.fine_tuning.scheduling import choose_next


@dataclass(frozen=True)
class Job:
    """What choose_next reads of a job."""

    id: str
    owner: str
    state: JobState


QUEUED = JobState("queued", "none", is_validated=True)
STATES = st.sampled_from(
    [
        QUEUED,
        JobState("validating_files"),
        JobState("paused", "none", 1),
        JobState("paused", "stopping", 1),
        JobState("queued", "submitting", 1),
        JobState("running", "submitted", 1),
        JobState("running", "publishing", 1),
        JobState("cancelled", "cleaning", 1),
    ]
)
JOBS = st.lists(st.tuples(st.sampled_from("abc"), STATES), max_size=20).map(
    lambda pairs: [Job(f"ftjob-{number:02}", owner, state) for number, (owner, state) in enumerate(pairs)]
)


def test_owners_take_turns_and_the_oldest_job_is_first() -> None:
    jobs = [Job(f"ftjob-{n}", owner, QUEUED) for n, owner in enumerate("aaabbc")]
    assert [job.id[-1] for job in choose_next(jobs, 5)] == ["0", "3", "5", "1", "4"]  # type: ignore[arg-type]


@given(jobs=JOBS, max_running=st.integers(1, 6))
def test_places_are_never_exceeded_and_never_left_empty(jobs: list[Job], max_running: int) -> None:
    chosen = choose_next(jobs, max_running)  # type: ignore[arg-type]
    occupied = sum(job.state.execution in OCCUPYING for job in jobs)
    waiting = [job for job in jobs if job.state == QUEUED]
    assert len(chosen) == max(0, min(max_running - occupied, len(waiting)))
    assert all(job in waiting for job in chosen)
    for owner in "abc":
        own = [job.id for job in waiting if job.owner == owner]
        taken = [job.id for job in chosen if job.owner == owner]
        assert taken == own[: len(taken)]
