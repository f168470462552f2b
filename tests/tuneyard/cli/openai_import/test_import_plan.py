"""Saved jobs become requests with the same settings, or are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.api.wire.platform_api.fine_tuning import CreateJobRequest
from tuneyard.cli.openai_import.export_folder import ExportFolder
from tuneyard.cli.openai_import.import_plan import TRAINING, VALIDATION, ImportPlan, plan_import
from tuneyard.core.errors import DatasetError, RequestError

MODEL = "gpt-4o-mini-2024-07-18"
FOLDER = ExportFolder(Path("saved"), [], {}, [Path("saved/file-a.jsonl"), Path("saved/file-b.jsonl")])


def saved_job(**values: Any) -> dict[str, Any]:
    """In OpenAI's published form."""
    return {
        "object": "fine_tuning.job",
        "id": "ftjob-abc123",
        "model": MODEL,
        "created_at": 1692661014,
        "finished_at": 1692661190,
        "fine_tuned_model": f"ft:{MODEL}:my-org:custom_suffix:7q8mpxmy",
        "organization_id": "org-123",
        "result_files": ["file-abc123"],
        "status": "succeeded",
        "validation_file": None,
        "training_file": "file-a",
        "hyperparameters": {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": 1.0},
        "trained_tokens": 5768,
        "integrations": [],
        "seed": 7,
        "estimated_finish": 0,
    } | values


def plan(base: str | None = None, **values: Any) -> ImportPlan:
    return plan_import(saved_job(**values), FOLDER, base)


def method(kind: str, **values: Any) -> dict[str, Any]:
    return {"type": kind, kind: {"hyperparameters": values}}


def test_a_job_of_the_older_form() -> None:
    found = plan()
    assert found.body == {
        "model": MODEL,
        "training_file": TRAINING,
        "method": method("supervised", n_epochs=4, batch_size=1, learning_rate_multiplier=1.0),
        "suffix": "custom_suffix",
        "seed": 7,
        "metadata": {"imported_from": "ftjob-abc123"},
    }
    assert found.files == {"training_file": Path("saved/file-a.jsonl")}
    assert found.describe() == (
        f"{MODEL}  supervised n_epochs=4 batch_size=1 learning_rate_multiplier=1.0 suffix=custom_suffix seed=7  "
        "file-a.jsonl"
    )


HYPERPARAMETERS = st.fixed_dictionaries(
    {},
    optional={
        "n_epochs": st.just("auto") | st.integers(1, 50),
        "batch_size": st.just("auto") | st.integers(1, 256),
        "learning_rate_multiplier": st.just("auto") | st.floats(0.01, 10) | st.integers(1, 10),
    },
)


@given(
    HYPERPARAMETERS,
    st.sampled_from(["supervised", "dpo"]),
    st.none() | st.sampled_from(["auto", 0.1, 2]),
    st.none() | st.from_regex(r"\A[a-z0-9-]{1,18}\Z"),
    st.none() | st.integers(0, 2**31 - 1),
    st.none() | st.dictionaries(st.text(max_size=64), st.text(max_size=512), max_size=15),
    st.sampled_from([None, "file-b"]),
)
def test_settings_stay(
    values: Any, kind: str, beta: Any, suffix: Any, seed: Any, metadata: Any, validation: Any
) -> None:
    if kind == "dpo":
        values = values | {"beta": beta}
    found = plan(
        method=method(kind, **values),
        hyperparameters=None,
        user_provided_suffix=suffix,
        fine_tuned_model=None,
        seed=seed,
        metadata=metadata,
        validation_file=validation,
    )
    request = CreateJobRequest.parse(found.body)
    same = {name: value for name, value in values.items() if value is not None}
    assert found.body["method"] == method(kind, **same)
    assert request.requested_hyperparameters.model_dump(exclude_unset=True) == same
    assert (request.suffix, request.seed, request.model) == (suffix, seed, MODEL)
    assert request.metadata == (metadata or {}) | {"imported_from": "ftjob-abc123"}
    assert request.validation_file == (VALIDATION if validation is not None else None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": method("reinforcement", n_epochs=1)}, "Reinforcement fine-tuning is not supported"),
        ({"model": "ft:gpt-4o-mini:my-org::abc"}, r"goes on from ft:\S+, and saved has no job that made it"),
        ({"hyperparameters": {"n_epochs": 99}}, r"method\.supervised\.hyperparameters\.n_epochs"),
        ({"metadata": {str(number): "" for number in range(16)}}, "metadata"),
        ({"training_file": None}, "has no training_file"),
        ({"training_file": "file-c"}, "saved has no file file-c"),
        ({"validation_file": "file-c"}, "saved has no file file-c"),
    ],
)
def test_what_cannot_be_imported_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestError, DatasetError), match=message):
        plan(**values)


def test_what_is_left_out_is_noted() -> None:
    found = plan("gpt-oss-20b", model="ft:x", validation_file="file-a", integrations=[{"type": "wandb", "wandb": {}}])
    assert (found.body["model"], list(found.files)) == ("gpt-oss-20b", ["training_file"])
    assert "integrations" not in found.body
    assert [note.split(" ")[1] for note in found.notes] == ["integration", "went", "validation_file"]


def test_the_integration_wandb_is_taken_over() -> None:
    integration = {"type": "wandb", "wandb": {"project": "support", "tags": ["first"]}}
    found = plan(integrations=[integration | {"wandb": integration["wandb"] | {"run_id": "ftjob-1", "entity": None}}])  # type: ignore[operator]
    assert found.body["integrations"] == [integration]
    assert "seed=7 wandb.project=support  file-a" in found.describe()
    assert found.notes == ()
    without = found.without_integrations()
    assert "integrations" not in without.body
    assert without.notes[0].startswith("its integration wandb is left out: this deployment has no platform.wandb.")
