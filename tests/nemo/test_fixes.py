"""Each upstream fix: its symptom appears without it and is gone with it; unknown versions are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import pytest

from jobs.nemo import fixes
from tuneyard.core.errors import MissingDependencyError

pytestmark = pytest.mark.nemo

SYMPTOMS = {
    "two quick_gelu functions": ("config", "ValueError: When bias_activation_fusion is True"),
    "reduction over a single rank": ("step", "is a view and is being modified inplace"),
    "router without TransformerEngine": ("step", "NameError: name 'te_general_gemm' is not defined"),
    "LoRA without TransformerEngine": ("lora", "UnavailableError: transformer_engine"),
    "uninitialised router bias": ("uninitialised", "['router.bias']"),
    "uninitialised attention sinks": ("uninitialised", "['softmax_offset']"),
    "adapters on some layers": ("save", "CheckpointingException: Invalid access pattern"),
}


def outcomes_without(name: str) -> dict[str, str]:
    """The outcome of each scenario of without_a_fix.py when the fix `name` is not applied."""
    environment = os.environ | {"PYTHONPATH": f"platform{os.pathsep}.", "PYTHONWARNINGS": "ignore"}
    finished = subprocess.run(
        [sys.executable, "-m", "tests.nemo.without_a_fix", name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    (line,) = [line for line in finished.stdout.splitlines() if line.startswith("OUTCOMES ")]
    outcomes: dict[str, str] = json.loads(line.removeprefix("OUTCOMES "))
    return outcomes


def test_with_all_fixes_everything_works() -> None:
    assert outcomes_without("nothing") == {
        "config": "GPTOSSConfig20B",
        "uninitialised": "[]",
        "step": "ok",
        "lora": "ok",
        "save": "ok",
    }


@pytest.mark.parametrize("name", [fix.name for fix in fixes.FIXES])
def test_without_a_fix_its_symptom_appears(name: str) -> None:
    scenario, symptom = SYMPTOMS[name]
    assert symptom in outcomes_without(name)[scenario]


def test_unknown_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fixes.check_versions()
    monkeypatch.setattr(metadata, "version", lambda _: "3.0.0")
    with pytest.raises(MissingDependencyError, match=r"nemo-toolkit 3.0.0 is installed.*make nemo-env"):
        fixes.check_versions()


@pytest.mark.parametrize("module", ["data_module", "schedule", "setup.run_seed", "connectors.model_config"])
def test_any_module_applies_the_fixes_also_after_nemo_was_imported(module: str) -> None:
    """As in the children that NeMo-Run starts with torchrun: NeMo comes first, then what the recipe names."""
    code = (
        "from nemo.collections import llm\n"
        f"import jobs.nemo.{module}\n"
        "from jobs.nemo.connectors.model_config import WITHOUT_TRANSFORMER_ENGINE\n"
        "assert 'jobs.nemo.setup.patched' in __import__('sys').modules\n"
        "print(type(llm.GPTOSSConfig20B(**WITHOUT_TRANSFORMER_ENGINE)).__name__)\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([os.environ["PYTHONPATH"], "platform", "."])}
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert finished.stdout.splitlines()[-1:] == ["GPTOSSConfig20B"], finished.stderr[-2000:]
