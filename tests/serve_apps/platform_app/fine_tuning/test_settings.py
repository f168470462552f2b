"""Hyperparameters and templates: whatever is requested, the run's config says the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from serve_apps.platform_app.fine_tuning.settings.bases import Base, Bases
from serve_apps.platform_app.fine_tuning.settings.hyperparameters import (
    batch_multiple,
    check_batch_size,
    resolve,
    rows_per_step,
)
from serve_apps.platform_app.fine_tuning.settings.run_config import run_config
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, base_options
from tuneyard.api.wire.platform_api.fine_tuning import DpoHyperparameters, SupervisedHyperparameters
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.platform_api.base_models import PlatformBaseConfig
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.errors import ModelNotFoundError, RequestError


def base_with(training: dict[str, Any] | None = None, workers: dict[str, Any] | None = None, **options: Any) -> Base:
    template = FinetuneConfig.model_validate(
        {
            "run": {"name": "t", "model_name": "t", "storage": "/storage"},
            "model": {"base": "/base"},
            "data": {"train": "/none.jsonl", "batching": "packed"},
            "training": training or {},
            "workers": workers or {"num_workers": 1},
        }
    )
    return Base(BASE, PlatformBaseConfig(config="/template.yaml", **options), template)


@given(
    per_worker=st.integers(1, 8),
    passes=st.integers(1, 6),
    workers=st.integers(1, 6),
    times=st.integers(1, 40),
    is_dpo=st.booleans(),
)
def test_a_step_has_the_rows_that_were_requested(
    per_worker: int, passes: int, workers: int, times: int, is_dpo: bool
) -> None:
    base = base_with(
        {"batch_size_per_worker": per_worker, "gradient_accumulation_steps": passes}, {"num_workers": workers}
    )
    kind = DpoHyperparameters if is_dpo else SupervisedHyperparameters
    requested = kind(n_epochs=2, batch_size=times * batch_multiple(base.template), learning_rate_multiplier=0.5)
    check_batch_size(requested, base, "batch_size")
    values, hint = resolve(requested, base, rows=100)
    config = run_config(base, "ftjob-1", "/train.jsonl", None, 7, values)
    assert rows_per_step(config) == requested.batch_size
    assert config.training.batch_size_per_worker <= per_worker
    assert config.training.epochs == 2
    assert config.training.seed == 7
    assert hint == ("Hyperparameters chosen for 100 rows: beta=0.1." if is_dpo else "")
    share = 0.05 if is_dpo else 1.0
    assert config.training.learning_rate == pytest.approx(2e-4 * share * 0.5)
    assert config.training.objective == ("dpo" if is_dpo else "supervised")
    assert config.data.batching == ("grouped" if is_dpo else "packed")


def test_an_elastic_run_takes_only_batches_that_every_number_of_workers_can_share() -> None:
    base = base_with({"gradient_accumulation_steps": 6}, {"num_workers": 2, "min_workers": 1})
    assert batch_multiple(base.template) == 2
    base = base_with({"gradient_accumulation_steps": 2}, {"num_workers": 3, "min_workers": 2})
    assert batch_multiple(base.template) == 6
    with pytest.raises(RequestError, match="multiple of 6"):
        check_batch_size(SupervisedHyperparameters(batch_size=4), base, "batch_size")
    values, _ = resolve(SupervisedHyperparameters(batch_size=12), base, 10)
    assert rows_per_step(run_config(base, "j", "/t.jsonl", None, 1, values)) == 12


@pytest.mark.parametrize(("rows", "epochs"), [(1, 25), (10, 10), (30, 3), (40, 3), (8000, 3), (9000, 2), (90_000, 1)])
def test_epochs_are_chosen_by_openais_rule(rows: int, epochs: int) -> None:
    assert resolve(SupervisedHyperparameters(), base_with(), rows)[0].n_epochs == epochs
    assert resolve(SupervisedHyperparameters(), base_with({"epochs": 5}), rows)[0].n_epochs == 5


def test_a_job_keeps_the_rest_of_its_template() -> None:
    base = base_with({"lora": {"rank": 4}, "early_stopping_patience": None}, dpo_learning_rate=3e-6)
    values, _ = resolve(DpoHyperparameters(beta=0.3), base, 50)
    config = run_config(base, "ftjob-9", "/train.jsonl", "/valid.jsonl", 7, values)
    assert config.training.lora.rank == 4
    assert (config.training.dpo.beta, config.training.learning_rate) == (0.3, 3e-6)
    assert (config.data.train, config.data.heldout, config.data.preference) == ("/train.jsonl", "/valid.jsonl", "pairs")
    assert (config.run.name, config.run.model_name) == ("ftjob-9", "ftjob-9")
    assert config.run.storage == "/storage/fine_tuning/ftjob-9"
    assert config.run.exported_checkpoints == base.config.checkpoints == 3


def test_a_base_is_found_by_name_and_alias_by_those_who_may_use_it(tmp_path: Path) -> None:
    bases = Bases(PlatformConfig(path=tmp_path / "db", files=str(tmp_path), **base_options(tmp_path)))
    assert bases.find("gpt-4o-mini-2024-07-18", lambda _: True) is bases.find(BASE, lambda _: True)
    with pytest.raises(ModelNotFoundError, match="Models that can be: none"):
        bases.find(BASE, lambda _: False)
