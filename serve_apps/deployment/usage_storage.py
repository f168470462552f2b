"""Whether the usage of API keys can be kept on a cluster, checked before anything starts."""

from __future__ import annotations

import contextlib

from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_ledger import UsageLedger, usage_location
from tuneyard.configs.database import DatabaseConfig
from tuneyard.core.errors import ClusterError, ConfigError


def check_usage_storage(keys: KeyStore | None, database: DatabaseConfig | None, nodes: int) -> bool:
    """Returns whether a deployment on a cluster of so many nodes keeps the usage of the keys; None: no key is needed.

    Without a database it does so only on one node: each node would have a SQLite file of its own. Raises ConfigError if
    the database or the file cannot be used, and ClusterError if a key has a budget that could not be held.
    """
    if keys is None:
        return False
    if database is None and nodes > 1:
        with_budget = [f"{key.id} ({key.name})" for key in keys.list_keys() if key.has_budget]
        if with_budget:
            raise ClusterError(
                f"The API key {with_budget[0]} has a budget per month, and the cluster has {nodes} nodes. Without "
                "`database` in the config, usage is kept in a SQLite file, which only the processes of one node can "
                "share. Set database to a PostgreSQL database, or remove the budget: tuneyard keys update."
            )
        return False
    location = usage_location(keys.path, database)
    try:
        with contextlib.closing(UsageLedger(location)) as ledger:
            ledger.check()
    except OSError as e:
        raise ConfigError(
            f"The usage of API keys cannot be kept in {location.name}: {e}. Make the folder writable, or set database "
            "to a PostgreSQL database."
        ) from e
    return True
