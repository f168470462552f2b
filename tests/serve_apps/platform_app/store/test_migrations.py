"""Migrations make the tables that the code describes, once, and refuse a database of a newer release."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from serve_apps.platform_app.store.metadata import METADATA
from serve_apps.platform_app.store.platform_database import VERSION_TABLE, open_database
from tuneyard.core.errors import ConfigError
from tuneyard.storage.sql.database import SCHEMA
from tuneyard.storage.sql.location import SqlLocation

IMPORT_MEANWHILE = """
import sys, threading
from pathlib import Path
from serve_apps.platform_app.store.platform_database import open_database
from tuneyard.storage.sql.location import SqlLocation

def read_registry():
    import alembic.op  # as MLflow does, in a thread of its own

reader = threading.Thread(target=read_registry)
reader.start()
open_database(SqlLocation(file=Path(sys.argv[1]))).check()
reader.join()
print("migrated")
"""


def differences(location: SqlLocation) -> list[Any]:
    """What Alembic would change in a migrated database to make the tables that METADATA describes.

    This room's conftest has imported all parts, and so all tables.
    """
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    with contextlib.closing(open_database(location)) as database, database.writing() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SET LOCAL search_path TO {SCHEMA}"))
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # SQLAlchemy cannot reflect every index of SQLite
            return list(compare_metadata(MigrationContext.configure(connection, opts=options), METADATA))


def test_migrations_make_the_tables_of_the_code(sql_location: SqlLocation) -> None:
    assert differences(sql_location) == []


def test_a_database_is_migrated_once_and_keeps_its_rows(sql_location: SqlLocation) -> None:
    for _ in range(2):
        with contextlib.closing(open_database(sql_location)) as database:
            with database.writing() as connection:
                connection.execute(text(f"INSERT INTO {_table(connection)} VALUES ('x', 'me', 1.0)"))
                connection.execute(text(f"UPDATE {_table(connection)} SET name = 'y' WHERE name = 'x'"))
            with database.reading() as connection:
                assert connection.execute(text(f"SELECT name FROM {_table(connection)}")).scalars().all() == ["y"]
            with database.writing() as connection:
                connection.execute(text(f"DELETE FROM {_table(connection)}"))


def test_the_database_of_a_newer_release_is_refused(sql_location: SqlLocation) -> None:
    with contextlib.closing(open_database(sql_location)) as database, database.writing() as connection:
        prefix = f"{SCHEMA}." if connection.dialect.name == "postgresql" else ""
        connection.execute(
            text(f"UPDATE {prefix}{VERSION_TABLE} SET version_num = 'files_9999' WHERE version_num = 'files_0001'")
        )
    with contextlib.closing(open_database(sql_location)) as database, pytest.raises(ConfigError, match="newer release"):
        database.check()


def _table(connection: Any) -> str:
    return f"{SCHEMA}.leases" if connection.dialect.name == "postgresql" else "leases"


def test_a_thread_that_imports_alembic_meanwhile_does_no_harm(tmp_path: Path) -> None:
    """Once the first upload to a server failed with status 500: a request to a model had just begun to import it."""
    arguments = [sys.executable, "-W", "ignore", "-c", IMPORT_MEANWHILE, str(tmp_path / "db")]
    done = subprocess.run(arguments, env=os.environ | {"PYTHONPATH": "platform:."}, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("migrated\n", "")
