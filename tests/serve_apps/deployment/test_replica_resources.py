"""check_response_store with a PostgreSQL database; with SQLite it needs Ray and is tried in tests/integration."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.deployment.replica_resources import check_response_store
from tests.postgresql_server import PostgresqlServer
from tuneyard.configs.database import DatabaseConfig
from tuneyard.configs.responses import ResponsesConfig
from tuneyard.core.errors import ConfigError


def test_a_database_that_cannot_be_used_stops_the_deployment(postgresql: PostgresqlServer, tmp_path: Path) -> None:
    url = postgresql.create_database()
    good = DatabaseConfig(url=url, password_file=postgresql.password_file)
    check_response_store(ResponsesConfig(store=True), good)
    (tmp_path / "wrong").write_text("wrong")
    bad = good.model_copy(update={"password_file": tmp_path / "wrong"})
    check_response_store(ResponsesConfig(store=False), bad)
    with pytest.raises(
        ConfigError, match=r"^Stored responses need the PostgreSQL database .* cannot be used: .*password"
    ):
        check_response_store(ResponsesConfig(store=True), bad)
