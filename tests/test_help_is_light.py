"""`--help` of every program imports nothing but the standard library and Tuneyard, so that it answers at once.

`make bench ARGS=help` measures the time.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("platform/tuneyard", "jobs", "serve_apps", "ui")
OURS = ("tuneyard", "jobs", "serve_apps", "ui")
SLOW_STANDARD_MODULES = ("asyncio",)


def programs() -> list[str]:
    """What can be started with `python -m`: every module with a `__main__` guard."""
    modules = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if re.search(r'^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.MULTILINE):
                parts = (
                    path.relative_to(ROOT / "platform" if room.startswith("platform") else ROOT).with_suffix("").parts
                )
                modules.append(".".join(parts).removesuffix(".__main__"))
    return modules


def loaded_by_help(module: str) -> tuple[str, list[str]]:
    """The help text of `python -m MODULE --help`, and the top-level modules that a fresh interpreter loads for it."""
    code = f"""
import sys
sys.path[:0] = {[str(ROOT / "platform"), str(ROOT)]!r}
before = set(sys.modules)
import runpy
sys.argv = ["program", "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
except SystemExit as e:
    assert e.code in (0, None), e.code
loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print("LOADED", *sorted(loaded))
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    text, _, loaded = run.stdout.rpartition("LOADED")
    return text, loaded.split()


def test_the_programs_are_found() -> None:
    assert {"tuneyard.cli", "tuneyard.cli.demo", "jobs.finetune", "serve_apps.deploy", "ui"} <= set(programs())


@pytest.mark.parametrize("module", programs())
def test_help_loads_no_third_party_module(module: str) -> None:
    text, loaded = loaded_by_help(module)
    assert text.startswith("usage: ")
    heavy = [name for name in loaded if name not in sys.stdlib_module_names and name not in OURS]
    heavy += [name for name in loaded if name in SLOW_STANDARD_MODULES]
    assert not heavy, f"python -m {module} --help imports {', '.join(heavy)}: import them inside functions"
