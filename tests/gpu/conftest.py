"""Runs the tests of this folder in the order of ORDER, each with a time limit; skips them without a GPU."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tuneyard.planning.local_gpus import describe_gpus

ORDER = (
    "test_slice_of_20b",
    "test_training_20b",
    "test_serving_20b",
    "test_transformers",
    "test_grammar",
    "test_nemo",
    "test_nemo_slice",
    "test_tensorrt_llm",
    "test_smoke",
)
"""Files by what they tell in the first minutes on a GPU. Files that are not named come last."""

TIME_LIMIT_S = 180

RESULTS_VARIABLE = "TUNEYARD_GPU_RESULTS"
"""Environment variable with the folder for results. Default: tests/gpu/results."""

SOFTWARE = ("torch", "transformers", "peft", "accelerate", "triton", "nemo-toolkit", "megatron-core", "tensorrt-llm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests of this folder, limits their time, and skips asynchronous ones without pytest-asyncio."""
    has_asyncio = importlib.util.find_spec("pytest_asyncio") is not None
    places = [place for place, item in enumerate(items) if Path(__file__).parent in item.path.parents]
    ours = [items[place] for place in places]
    for item in ours:
        item.add_marker(pytest.mark.timeout(TIME_LIMIT_S))
        if not has_asyncio and inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.skip(reason="pytest-asyncio is not installed"))
    ours.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else len(ORDER))
    for place, item in zip(places, ours, strict=True):
        items[place] = item


@pytest.fixture(autouse=True)
def gpu() -> str:
    """The first GPU's name."""
    gpus = describe_gpus()
    if not gpus:
        pytest.skip("this machine has no CUDA GPU")
    return str(gpus[0]["name"])


@pytest.fixture
def fresh_megatron() -> Iterator[None]:
    """Forgets the batch sizes of a run behind a test: a run of other sizes in the same process would be refused."""
    yield
    from megatron.core.num_microbatches_calculator import unset_num_microbatches_calculator

    unset_num_microbatches_calculator()


@pytest.fixture
def record(gpu: str) -> Callable[[str, dict[str, Any]], None]:
    """A function that writes a result at once, to a file of its own: the machine may be gone before the last test."""

    def write(name: str, result: dict[str, Any]) -> None:
        folder = Path(os.environ.get(RESULTS_VARIABLE) or Path(__file__).parent / "results")
        folder.mkdir(parents=True, exist_ok=True)
        made = {"gpu": gpu, "software": _software(), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
        (folder / f"{name}.json").write_text(json.dumps(made | result, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(result), flush=True)

    return write


def _software() -> dict[str, str]:
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
