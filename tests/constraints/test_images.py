"""What the images install has a version: by a constraint file, or in the command itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

IMAGES = sorted(Path("platform/images").glob("*.Dockerfile"))


def pinned(file: str) -> dict[str, str]:
    """The versions of a constraint file, by package."""
    lines = Path(file).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def test_transformer_engine_is_the_one_of_megatron() -> None:
    """It is compiled, so no constraint file has it, and the newest is for another Megatron."""
    image = Path("platform/images/train.Dockerfile").read_text(encoding="utf-8")
    (text,) = set(re.findall(r'"(transformer-engine\[pytorch\][^"]*)"', image))
    requirement = Requirement(text)
    (version,) = [spec.version for spec in requirement.specifier if spec.operator == "=="]
    # The extra `dev` of megatron-core 0.15.3.
    assert pinned("constraints/nemo.txt")["megatron-core"] == "0.15.3"
    assert SpecifierSet(">=2.9.0a0,<2.10.0").contains(version)
    assert f"== '{version}'" in image


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.stem)
def test_every_install_of_packages_is_constrained(image: Path) -> None:
    commands = image.read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"pip install [^&\n]*", commands)
    assert installs
    assert [line for line in installs if " -c constraints/" not in line] == []
