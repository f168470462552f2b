"""Each upstream fix: without it its symptom is there, with it it is gone; unknown versions are refused."""

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
    "one quick_gelu": ("config", "ValueError: When bias_activation_fusion is True"),
    "no reduction over one rank": ("step", "is a view and is being modified inplace"),
    "router without TransformerEngine": ("step", "NameError: name 'te_general_gemm' is not defined"),
    "LoRA without TransformerEngine": ("lora", "UnavailableError: transformer_engine"),
    "router bias": ("uninitialised", "['router.bias']"),
    "attention sinks": ("uninitialised", "['softmax_offset']"),
}


def outcomes_without(name: str) -> dict[str, str]:
    environment = os.environ | {"PYTHONPATH": f"platform{os.pathsep}.", "PYTHONWARNINGS": "ignore"}
    ended = subprocess.run(
        [sys.executable, "-m", "tests.nemo.without_a_fix", name],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("FOUND ")]
    found: dict[str, str] = json.loads(line.removeprefix("FOUND "))
    return found


def test_with_all_fixes_everything_works() -> None:
    found = outcomes_without("nothing")
    assert found == {"config": "GPTOSSConfig20B", "uninitialised": "[]", "step": "ok", "lora": "ok"}


@pytest.mark.parametrize("name", [fix.name for fix in fixes.FIXES])
def test_without_a_fix_its_symptom_is_there(name: str) -> None:
    scenario, symptom = SYMPTOMS[name]
    assert symptom in outcomes_without(name)[scenario]


def test_versions_that_nobody_looked_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fixes.check_versions()
    monkeypatch.setattr(metadata, "version", lambda _: "3.0.0")
    with pytest.raises(MissingDependencyError, match=r"nemo-toolkit 3.0.0 is installed.*make nemo-env"):
        fixes.check_versions()
