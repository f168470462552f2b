"""Figures of this machine, written to tests/bench/results with hardware and versions."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.bench import engine
from tuneyard.gpu_here import describe_gpus

pytestmark = pytest.mark.gpu
RESULTS = Path(__file__).parents[1] / "bench" / "results"


def test_an_engine_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """TUNEYARD_BENCH_CONFIG names a preset with its checkpoint; else smol-oss-135m on the transformers engine."""
    outer = os.environ["TUNEYARD_OUTER_HOME"]
    if outer:
        monkeypatch.setenv("TUNEYARD_HOME", outer)
    else:
        monkeypatch.delenv("TUNEYARD_HOME")
    if engine.CONFIG_VARIABLE not in os.environ and not engine._what()[1].is_dir():
        pytest.skip(f"no smol-oss-135m in TUNEYARD_HOME, and no preset in {engine.CONFIG_VARIABLE}")
    result = engine.run()
    assert [row["streams"] for row in result["streams"]] == list(engine.STREAMS)
    assert all(row["output_tokens_per_s"] > 0 for row in result["streams"])
    name = f"engine-{result['engine']}-{describe_gpus()[0]['name'].replace(' ', '_')}-{time.strftime('%Y%m%d-%H%M%S')}"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["streams"], indent=1))
