"""Benchmarks of this machine; results go to tests/bench/results with hardware and versions."""

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
    """TUNEYARD_HOME as it was outside the test run, because the models are there."""
    outer = os.environ["TUNEYARD_OUTER_HOME"]
    if outer:
        monkeypatch.setenv("TUNEYARD_HOME", outer)
    else:
        monkeypatch.delenv("TUNEYARD_HOME")


def test_an_engine_under_load() -> None:
    """The preset that TUNEYARD_BENCH_CONFIG names, with its checkpoint; otherwise smol-oss-135m on transformers."""
    if engine.CONFIG_VARIABLE not in os.environ:
        _skip_without_smol(f"and {engine.CONFIG_VARIABLE} names no preset")
    result = engine.run()
    assert [row["streams"] for row in result["streams"]] == list(engine.STREAMS)
    assert all(row["output_tokens_per_s"] > 0 for row in result["streams"])
    _save(f"engine-{result['engine']}", result, result["streams"])


def test_ways_of_batching() -> None:
    """All values of `data.batching` give the same loss. The times show which default is best."""
    _skip_without_smol("build it with `python -m jobs.build_base_model smol-oss-135m`")
    result = batching.run()
    losses = [result[name]["loss"] for name in ("padded", "grouped", "packed")]
    assert losses == pytest.approx([losses[0]] * 3, rel=0.01)
    _save("batching", result, {name: result[name] for name in ("padded", "grouped", "packed", "fastest")})


def _skip_without_smol(hint: str) -> None:
    if not (tuneyard_home() / "models" / "base" / SMOL).is_dir():
        pytest.skip(f"TUNEYARD_HOME has no {SMOL}: {hint}")


def _save(name: str, result: dict[str, Any], shown: Any) -> None:
    gpu = describe_gpus()[0]["name"].replace(" ", "_")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}-{gpu}-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(shown, indent=1))
