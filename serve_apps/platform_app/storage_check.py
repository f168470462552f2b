"""check_platform_storage: whether records and files can be kept, before anything starts."""

from __future__ import annotations

import contextlib

from serve_apps.platform_app.files.content_store import ContentStore
from serve_apps.platform_app.store.platform_database import database_location, open_database
from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.platform_api.platform_config import PlatformConfig
from tuneyard.core.errors import ClusterError, ConfigError, StorageError, StorageFullError


def check_platform_storage(config: PlatformConfig, database: DatabaseConfig | None, nodes: int) -> None:
    """Connects to the database, migrates it, and writes a file on this machine.

    Raises ConfigError with the reason if that fails; ClusterError for a SQLite file on a cluster of several nodes: each
    node would have records of its own.
    """
    if database is None and nodes > 1:
        raise ClusterError(
            f"The config has `platform`, and the cluster has {nodes} nodes. Its records are in a SQLite database, "
            f"{config.path}, which only the processes of one node can share. Set database to a PostgreSQL database, or "
            "deploy on a cluster of one node."
        )
    with contextlib.closing(open_database(database_location(config, database))) as store:
        store.check()
    try:
        ContentStore(config.files).check()
    except (StorageError, StorageFullError) as e:
        raise ConfigError(f"The files of the fine-tuning API cannot be kept: {e}\nSet platform.files.") from e
