"""The options of tasks, in one form for checkpoints and served models."""

from __future__ import annotations

from typing import Any

import pytest

from jobs.evaluation.tasks.task_loading import load_tasks
from tests.jobs.evaluation.tasks.conftest import ANSWER, WriteTask
from tuneyard.core.errors import ConfigError

GREEDY: dict[str, Any] = {"until": ["."], "do_sample": False, "num_beams": 1}


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (GREEDY | {"max_new_tokens": 12}, {"until": ["."], "max_gen_toks": 12}),
        (GREEDY | {"max_tokens": 12, "max_gen_toks": 9}, {"until": ["."], "max_gen_toks": 9}),
        (
            GREEDY | {"max_completion_tokens": 12, "temperature": 0.7, "top_p": 0.5},
            {"until": ["."], "max_gen_toks": 12},
        ),
        ({"until": ".", "temperature": "0", "do_sample": True}, {"until": "."}),
        ({"until": "."}, {"until": "."}),
        ({"until": ".", "do_sample": True}, {"until": ".", "temperature": 1.0}),
        ({"until": ".", "temperature": 0.2, "top_p": 0.95}, {"until": ".", "temperature": 0.2, "top_p": 0.95}),
        # lm_eval fills these in, with a limit of 256 that no person chose.
        (None, {"until": ["\n\n"]}),
    ],
)
def test_options_have_one_form(write_task: WriteTask, given: dict[str, Any] | None, kept: dict[str, Any]) -> None:
    folder = write_task(ANSWER, generation_kwargs=given)
    (named,), _ = load_tasks(["our_answer"], folder, download=False)
    assert named.tasks[0].config.generation_kwargs == kept


def test_options_that_served_models_do_not_have_are_refused_by_name(write_task: WriteTask) -> None:
    folder = write_task(ANSWER, generation_kwargs=GREEDY | {"num_beams": 4, "max_length": 99})
    with pytest.raises(ConfigError, match=r"our_answer: generation_kwargs has num_beams: 4, max_length: 99, which"):
        load_tasks(["our_answer"], folder, download=False)
