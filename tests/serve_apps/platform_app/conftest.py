"""The application on each kind of database, for tests without Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.serve_apps.platform_app.platform_under_test import PlatformUnderTest, open_platform
from tuneyard.api.api_keys import KeyStore
from tuneyard.storage.sql.location import SqlLocation

PlatformFactory = Callable[..., PlatformUnderTest]


@pytest.fixture
def make_platform(tmp_path: Path) -> Iterator[PlatformFactory]:
    """Makes the application on a SQLite file; all of one test share it. Options are open_platform's."""
    with contextlib.ExitStack() as stack:
        location = SqlLocation(file=tmp_path / "platform.db")
        yield lambda **options: stack.enter_context(open_platform(location, tmp_path, **options))


@pytest.fixture
def platform(sql_location: SqlLocation, tmp_path: Path) -> Iterator[PlatformUnderTest]:
    """The application on a SQLite file, and on PostgreSQL, with API keys."""
    with open_platform(sql_location, tmp_path, keys=KeyStore(tmp_path / "api_keys.json")) as platform:
        yield platform


def stored_names(folder: Path) -> list[str]:
    """The names of all files below a folder."""
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def error_of(error: Any) -> tuple[int, str | None, str | None]:
    """Status, code and parameter of an error that the SDK raised."""
    return error.status_code, error.code, error.param
