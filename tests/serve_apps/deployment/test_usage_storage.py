"""A deployment keeps usage where all its replicas can, and refuses budgets that it could not hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.deployment.usage_storage import check_usage_storage
from tests.postgresql_server import PostgresqlServer
from tuneyard.api.api_keys import KeyStore
from tuneyard.configs.database import DatabaseConfig
from tuneyard.core.errors import ClusterError, ConfigError


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    store = KeyStore(tmp_path / "api_keys.json")
    store.create("plain")
    return store


def test_one_node_needs_no_database(keys: KeyStore) -> None:
    assert not check_usage_storage(None, None, 1), "no key is needed"
    assert check_usage_storage(keys, None, 1)
    assert keys.path.with_name("usage.db").exists()


def test_several_nodes_without_a_database_keep_no_usage(keys: KeyStore) -> None:
    assert not check_usage_storage(keys, None, 2)
    key, _ = keys.create("with a budget", tokens_per_month=5)
    with pytest.raises(ClusterError, match=rf"{key.id} \(with a budget\) has a budget per month.* has 2 nodes"):
        check_usage_storage(keys, None, 2)
    keys.update(key.id, {"tokens_per_month": None})
    assert not check_usage_storage(keys, None, 2)


def test_several_nodes_with_a_database(keys: KeyStore, postgresql: PostgresqlServer) -> None:
    keys.create("with a budget", tokens_per_month=5)
    database = DatabaseConfig(url=postgresql.create_database(), password_file=postgresql.password_file)
    assert check_usage_storage(keys, database, 2)
    wrong = DatabaseConfig(url=postgresql.url("none"), password_file=postgresql.password_file)
    with pytest.raises(ConfigError, match="Usage counts of API keys need"):
        check_usage_storage(keys, wrong, 2)


def test_a_file_that_cannot_be_written_is_refused(keys: KeyStore) -> None:
    keys.path.with_name("usage.db").mkdir()
    with pytest.raises(ConfigError, match="cannot be kept in"):
        check_usage_storage(keys, None, 1)
