"""Every module that imports NeMo through us also applies the fixes; reaching NeMo by any of them is enough."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

NEMO = Path("jobs/nemo")
PATCHED = "jobs.nemo.setup.patched"
WITHOUT = {NEMO / "fixes.py", NEMO / "setup" / "patched.py", NEMO / "cpu" / "cpu_shim.py"}
"""The fixes themselves, and the shim, which comes before them."""


def imported(path: Path) -> Iterator[str]:
    """Names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


MODULES = [
    path
    for path in sorted(NEMO.rglob("*.py"))
    if path not in WITHOUT and {name.partition(".")[0] for name in imported(path)} & {"nemo", "megatron"}
]


def test_there_are_such_modules() -> None:
    assert len(MODULES) > 12


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_it_applies_the_fixes(path: Path) -> None:
    assert PATCHED in set(imported(path)), f"{path}: add `import {PATCHED}`"
