"""NeMo as a TrainingBackend: the contract, and the same loss curve as transformers."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.training_backend import create_backend
from tests.jobs.backend_contract import RecordingContext, backend_config, check_contract, stored, token_rows
from tuneyard.errors import ConfigError

pytestmark = [pytest.mark.nemo, pytest.mark.usefixtures("nemo_fixes")]

CURVE_STEPS = 20
CURVE_TOLERANCE = 5e-4
"""nats; transformers rounds the losses that it logs to 1e-4."""


@pytest.mark.parametrize("method", ["full", "lora"])
def test_contract(tiny_fp32: Path, tmp_path: Path, method: str) -> None:
    asked = backend_config(tiny_fp32, name=method, backend="nemo", method=method, learning_rate=0.003)
    check_contract(asked, token_rows(tiny_fp32), tmp_path)


def test_both_backends_have_one_loss_curve(tiny_fp32: Path, tmp_path: Path) -> None:
    """Same base, tokens, seed and settings, every weight trained in fp32: sinks, YaRN, windows and routing included."""
    losses = {}
    tokens = stored(token_rows(tiny_fp32, 60), tmp_path / "tokens")
    for backend in ("transformers", "nemo"):
        asked = backend_config(
            tiny_fp32,
            name=f"curve-{backend}",
            backend=backend,
            method="full",
            learning_rate=0.001,
            max_steps=CURVE_STEPS,
            checkpoint_every_steps=CURVE_STEPS,
            weight_decay=0.1,
        )
        context = RecordingContext(tmp_path / backend)
        create_backend(asked).train(asked, tokens, context)
        losses[backend] = context.losses
    assert len(losses["nemo"]) == CURVE_STEPS
    assert losses["nemo"] == pytest.approx(losses["transformers"], abs=CURVE_TOLERANCE)
    assert losses["nemo"][-1] < 0.6 * losses["nemo"][0]


def test_parallelism_that_cannot_run_is_refused_before_the_base_is_touched(tiny_fp32: Path) -> None:
    from jobs.nemo_recipe import build_recipe

    asked = backend_config(tiny_fp32, backend="nemo")
    asked = asked.model_copy(update={"nemo": asked.nemo.model_copy(update={"expert_parallel": 3})})
    with pytest.raises(ConfigError, match=r"1 workers are no multiple of expert 3"):
        build_recipe(asked)
