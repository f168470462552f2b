"""Figures of this machine, written to tests/bench/results with hardware and versions."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.bench import batching, engine
from tests.bench.bases import SMOL
from tuneyard.core.home import tuneyard_home
from tuneyard.planning.local_gpus import describe_gpus

pytestmark = pytest.mark.gpu
RESULTS = Path(__file__).parents[1] / "bench" / "results"


@pytest.fixture(autouse=True)
def outer_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person's own, where the models are."""
    outer = os.environ["TUNEYARD_OUTER_HOME"]
    if outer:
        monkeypatch.setenv("TUNEYARD_HOME", outer)
    else:
        monkeypatch.delenv("TUNEYARD_HOME")


def test_an_engine_under_load() -> None:
    """TUNEYARD_BENCH_CONFIG names a preset with its checkpoint; else smol-oss-135m on the transformers engine."""
    if engine.CONFIG_VARIABLE not in os.environ:
        _need_smol(f"and no preset in {engine.CONFIG_VARIABLE}")
    result = engine.run()
    assert [row["streams"] for row in result["streams"]] == list(engine.STREAMS)
    assert all(row["output_tokens_per_s"] > 0 for row in result["streams"])
    _keep(f"engine-{result['engine']}", result, result["streams"])


def test_ways_of_batching() -> None:
    """The same loss each way; which is fastest is for whoever sets `data.batching` and its default."""
    _need_smol("which `python -m jobs.build_base_model smol-oss-135m` makes")
    result = batching.run()
    losses = [result[name]["loss"] for name in ("padded", "grouped", "packed")]
    assert losses == pytest.approx([losses[0]] * 3, rel=0.01)
    _keep("batching", result, {name: result[name] for name in ("padded", "grouped", "packed", "fastest")})


def _need_smol(otherwise: str) -> None:
    if not (tuneyard_home() / "models" / "base" / SMOL).is_dir():
        pytest.skip(f"no {SMOL} in TUNEYARD_HOME, {otherwise}")


def _keep(name: str, result: dict[str, Any], shown: Any) -> None:
    gpu = describe_gpus()[0]["name"].replace(" ", "_")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{gpu}-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(shown, indent=1))
