"""The extras of pyproject.toml: each name that is written somewhere exists, in the form that every pip finds."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).resolve().parents[2]
EXTRAS = set(tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
REQUEST = re.compile(r"(?:\btuneyard|['\"\s]\.)\[([\w,-]+)\]")


def requested() -> dict[str, set[str]]:
    """The extras that the repository's files ask for -> the files."""
    files = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split()
    found: dict[str, set[str]] = {}
    for name in files:
        path = CHECKOUT / name
        if path.suffix in (".py", ".md", ".toml", ".yaml", ".Dockerfile") or path.name == "Makefile":
            for match in REQUEST.finditer(path.read_text(encoding="utf-8") if path.is_file() else ""):
                for extra in match[1].split(","):
                    found.setdefault(extra, set()).add(name)
    return found


def test_each_extra_that_is_asked_for_exists() -> None:
    """pip 23.2, which Python 3.11 brings, looks for `llama_cpp` literally, finds `llama-cpp`, warns, and installs
    nothing of it."""
    names = requested()
    assert {"serve", "llama-cpp", "dev"} <= names.keys()
    assert {extra: files for extra, files in names.items() if extra not in EXTRAS} == {}


def test_names_of_extras_are_normalized() -> None:
    assert {canonicalize_name(extra) for extra in EXTRAS} == EXTRAS
