"""open_database: the store's database, whose tables the migrations keep at this release's form."""

from __future__ import annotations

from pathlib import Path

# Imported here, and so before a replica has threads: two threads that import Alembic at the same time, such as MLflow's
# and this one, find its modules half initialised.
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text

from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.errors import ConfigError
from tuneyard.storage.sql.database import SCHEMA, SqlDatabase
from tuneyard.storage.sql.location import SqlLocation

WHAT = "Records of the fine-tuning API"
VERSION_TABLE = "platform_version"
"""Alembic's table: the last migration of each part that ran."""

MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(location: SqlLocation) -> SqlDatabase:
    """The database. It connects, and migrates its tables, with its first use."""
    return SqlDatabase(location, MetaData(), what=WHAT, migrate=migrate)


def database_location(config: PlatformConfig, database: DatabaseConfig | None) -> SqlLocation:
    """Where the records of a deployment are."""
    return database.location if database is not None else SqlLocation(file=config.path)


def migrate(connection: Connection) -> None:
    """Runs the migrations that this database lacks, in the connection's transaction: all of them or none.

    Raises ConfigError if a newer release has migrated the database.
    """
    scripts = ScriptDirectory(MIGRATIONS, version_locations=[MIGRATIONS])
    if connection.dialect.name == "postgresql":
        # Some of Alembic's statements do not pass through the connection's schema_translate_map.
        connection.execute(text(f"SET LOCAL search_path TO {SCHEMA}"))
    # As alembic.command.upgrade does, without its files env.py and alembic.ini.
    options = {"fn": lambda done, _: scripts._upgrade_revs("heads", done), "version_table": VERSION_TABLE}
    context = MigrationContext.configure(connection, opts=options)
    try:
        with Operations.context(context):
            context.run_migrations()
    except CommandError as e:
        raise ConfigError(
            f"{WHAT} were written by a newer release of Tuneyard ({e}). Start that release, or restore a backup."
        ) from e
