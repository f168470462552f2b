"""`make audit`: which constraint files and requirements admit a version with a known hole.

The holes are a checked-in list, advisories.yaml, so that the check runs without a network.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from constraints.version_ranges import common_version

ROOT = Path(__file__).resolve().parents[1]
ADVISORIES = Path(__file__).with_name("advisories.yaml")


@dataclass(frozen=True)
class Advisory:
    """A known hole of a package."""

    id: str
    package: str
    affected: tuple[SpecifierSet, ...]
    """The versions that have the hole: those of any of the sets."""
    read: date
    """When this entry was last compared with its source."""
    what: str
    accepted: Mapping[str, str]
    """File name -> what limits the hole there, for files whose version cannot be raised."""

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Advisory:
        """Returns an entry of advisories.yaml. Raises TypeError for a missing or unknown field."""
        affected = tuple(map(SpecifierSet, entry["affected"]))
        return cls(**{"accepted": {}, **entry, "affected": affected})


@dataclass(frozen=True)
class Hole:
    """A requirement that admits a version with a known hole."""

    advisory: Advisory
    file: str
    requirement: str
    version: str
    """A version that the requirement admits and that has the hole."""

    @property
    def accepted(self) -> str | None:
        """What limits the hole in this file; None if the hole is not accepted."""
        return self.advisory.accepted.get(self.file)


def load_advisories(path: Path = ADVISORIES) -> list[Advisory]:
    """Returns all entries of the file."""
    return [Advisory.from_entry(entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def read_requirements(root: Path = ROOT) -> dict[str, list[Requirement]]:
    """Returns the requirements of pyproject.toml, of the constraint files and of the clients' environments, by file."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    files = {"pyproject.toml": lines}
    for path in sorted([*root.glob("constraints/*.txt"), *root.glob("tests/clients/environments/*.txt")]):
        files[path.name] = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return {name: [Requirement(line) for line in lines if line] for name, lines in files.items()}


def find_holes(advisories: Iterable[Advisory], files: Mapping[str, Iterable[Requirement]]) -> Iterator[Hole]:
    """Yields each requirement that admits a version with a known hole, accepted or not."""
    by_package: dict[str, list[Advisory]] = {}
    for advisory in advisories:
        by_package.setdefault(canonicalize_name(advisory.package), []).append(advisory)
    for file, requirements in files.items():
        for requirement in requirements:
            for advisory in by_package.get(canonicalize_name(requirement.name), ()):
                for affected in advisory.affected:
                    version = common_version(requirement.specifier, affected)
                    if version is not None:
                        yield Hole(advisory, file, str(requirement), str(version))
                        break


def stale_acceptances(advisories: Iterable[Advisory], holes: Iterable[Hole]) -> list[str]:
    """Returns a message for each entry in `accepted` whose file no longer admits a version with the hole."""
    found = {(hole.advisory.id, hole.file) for hole in holes}
    return [
        f"{advisory.id}: {file} no longer admits a version with this hole. Remove the file from `accepted`."
        for advisory in advisories
        for file in advisory.accepted
        if (advisory.id, file) not in found
    ]


def main() -> int:
    """Prints every hole, and returns 1 if one is not accepted or an acceptance is stale."""
    advisories = load_advisories()
    holes = list(find_holes(advisories, read_requirements()))
    for hole in sorted(holes, key=lambda hole: hole.accepted is not None):
        state = "accepted" if hole.accepted else "OPEN"
        print(f"{state:8} {hole.file}: {hole.requirement} admits {hole.version}: {hole.advisory.id}")
        print(f"         {hole.accepted or hole.advisory.what}")
    problems = stale_acceptances(advisories, holes)
    print("\n".join(problems), end="\n" if problems else "")
    unaccepted = [hole for hole in holes if hole.accepted is None]
    read = min(advisory.read for advisory in advisories)
    print(f"{len(advisories)} advisories, the oldest compared with its source on {read}")
    print(f"{len(unaccepted)} open, {len(holes) - len(unaccepted)} accepted")
    return int(bool(unaccepted or problems))


if __name__ == "__main__":
    sys.exit(main())
