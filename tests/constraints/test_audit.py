"""No constraint file and no requirement admits a version with a known hole that is not accepted."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from constraints.audit import ADVISORIES, Advisory, find_holes, load_advisories, read_requirements, stale_acceptances

SECURITY_PAGE = Path("docs/security.md")


def advisory(**fields: Any) -> Advisory:
    """An advisory for the package `holey`, all versions below 2."""
    good = {"id": "CVE-1", "package": "holey", "affected": ["<2"], "read": date(2026, 11, 27), "what": "it leaks."}
    return Advisory.from_entry(good | fields)


def test_no_hole_is_open_and_no_acceptance_is_stale() -> None:
    advisories = load_advisories()
    holes = list(find_holes(advisories, read_requirements()))
    assert [(hole.file, hole.requirement, hole.advisory.id) for hole in holes if hole.accepted is None] == []
    assert stale_acceptances(advisories, holes) == []


def test_the_security_page_names_each_accepted_hole() -> None:
    page = SECURITY_PAGE.read_text(encoding="utf-8")
    assert [a.id for a in load_advisories() if a.accepted and a.id not in page] == []


@pytest.mark.parametrize(
    ("requirement", "is_hole"),
    [
        ("holey==1.9", True),
        ("Holey[extra]>=1,<3", True),
        ("holey", True),
        ("holey>=2", True),
        ("holey>=2,!=9.9", False),
        ("holey==9.8", False),
        ("holey-package==1.0", False),
    ],
)
def test_a_requirement_that_admits_an_affected_version_is_a_hole(requirement: str, is_hole: bool) -> None:
    holes = list(find_holes([advisory(affected=["<2", "==9.9"])], {"x.txt": [Requirement(requirement)]}))
    assert bool(holes) == is_hole


def test_an_accepted_hole_is_still_found_and_a_stale_acceptance_is_named() -> None:
    accepted = advisory(accepted={"x.txt": "nothing listens there.", "gone.txt": "no longer true."})
    holes = list(find_holes([accepted], {"x.txt": [Requirement("holey==1")], "gone.txt": [Requirement("holey==2")]}))
    assert [hole.accepted for hole in holes] == ["nothing listens there."]
    (message,) = stale_acceptances([accepted], holes)
    assert message.startswith("CVE-1: gone.txt no longer admits")


def test_every_advisory_has_one_entry_with_a_date() -> None:
    advisories = load_advisories(ADVISORIES)
    assert len({a.id for a in advisories}) == len(advisories)
    assert all(isinstance(a.read, date) and a.what.endswith(".") for a in advisories)
    with pytest.raises(TypeError):
        advisory(unknown="field")
