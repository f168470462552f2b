"""Storage locations: the locations of children, and the default."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.storage.location import child_location, default_storage


@pytest.mark.parametrize(
    ("location", "names", "expected"),
    [
        ("/data/x", ("a", "b"), "/data/x/a/b"),
        ("s3://bucket/p/", ("a",), "s3://bucket/p/a"),
        (
            "s3://bucket?scheme=http&endpoint_override=h:1",
            ("a", "b"),
            "s3://bucket/a/b?scheme=http&endpoint_override=h:1",
        ),
    ],
)
def test_child_location(location: str, names: tuple[str, ...], expected: str) -> None:
    assert child_location(location, *names) == expected


@pytest.mark.parametrize(
    ("variable", "expected"),
    [("s3://bucket/x", "s3://bucket/x"), ("here", str(Path.cwd() / "here")), ("/data", "/data")],
)
def test_default_storage_is_the_variable(monkeypatch: pytest.MonkeyPatch, variable: str, expected: str) -> None:
    monkeypatch.setenv("TUNEYARD_STORAGE", variable)
    assert default_storage() == expected


def test_default_storage_without_the_variable_is_the_home(monkeypatch: pytest.MonkeyPatch, tuneyard_home: Path) -> None:
    monkeypatch.delenv("TUNEYARD_STORAGE", raising=False)
    assert default_storage() == str(tuneyard_home)
