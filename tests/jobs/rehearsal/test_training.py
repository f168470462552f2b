"""What counts as a run that continued after a worker's death."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.rehearsal.small_run import CHECKPOINT_EVERY, STEPS
from jobs.rehearsal.training import check_resumption
from tuneyard.core.errors import TrainingError


def points(steps: list[int], shift: float = 0.0) -> list[tuple[int, dict[str, float]]]:
    """Points of a run that took `steps`; those taken again have a loss that is larger by `shift`."""
    found: list[tuple[int, dict[str, float]]] = []
    for place, step in enumerate(steps):
        again = shift if step in steps[:place] else 0.0
        found.append((step, {"loss": 9.0 - step / 10 + again}))
        if step % CHECKPOINT_EVERY == 0:
            found.append((step, {"eval_loss": 8.0}))
    return found


def steps_of(last_before: int) -> list[int]:
    """The steps of a run whose worker died in the step after `last_before`, with a checkpoint of CHECKPOINT_EVERY."""
    return [*range(1, last_before + 1), *range(CHECKPOINT_EVERY + 1, STEPS + 1)]


@given(last_before=st.integers(CHECKPOINT_EVERY, STEPS), shift=st.floats(-5e-4, 5e-4))
def test_a_run_that_continues_from_its_checkpoint_passes(last_before: int, shift: float) -> None:
    check_resumption(points(steps_of(last_before), shift), CHECKPOINT_EVERY, compares=True)


@given(last_before=st.integers(CHECKPOINT_EVERY, STEPS))
def test_a_run_that_begins_again_is_wrong(last_before: int) -> None:
    steps = [*range(1, last_before + 1), *range(1, STEPS + 1)]
    with pytest.raises(TrainingError, match="began again with step 1, although it had a checkpoint of step 4"):
        check_resumption(points(steps), CHECKPOINT_EVERY, compares=True)


@given(last_before=st.integers(CHECKPOINT_EVERY + 1, STEPS), shift=st.floats(0.01, 5))
def test_a_repeated_step_with_another_loss_is_wrong(last_before: int, shift: float) -> None:
    found = points(steps_of(last_before), shift)
    with pytest.raises(TrainingError, match=r"repeated step 5 with the loss .* did not continue where it was"):
        check_resumption(found, CHECKPOINT_EVERY, compares=True)
    check_resumption(found, CHECKPOINT_EVERY, compares=False)


@given(again=st.sets(st.integers(1, STEPS)))
def test_a_worker_that_was_killed_after_the_last_step_shows_nothing(again: set[int]) -> None:
    with pytest.raises(TrainingError, match=r"killed after the last step, 8.*Start the rehearsal again"):
        check_resumption(points([*range(1, STEPS + 1), *sorted(again)]), STEPS, compares=True)


@given(missing=st.integers(2, STEPS))
def test_a_run_that_loses_a_step_is_wrong(missing: int) -> None:
    steps = [step for step in steps_of(CHECKPOINT_EVERY) if step != missing]
    with pytest.raises(TrainingError, match="not all of 1 to 8"):
        check_resumption(points(steps), CHECKPOINT_EVERY, compares=True)
