"""The application that Serve's own config files build: one model, never without API keys."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.postgresql_server import PostgresqlServer
from tuneyard.api.api_keys import KeyStore
from tuneyard.core.errors import ClusterError, ConfigError

# Ray Serve warns when it is imported, so the tests import it.
pytestmark = pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`")


@pytest.fixture
def config(tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path / "home"))
    models = [{"model_id": name, "checkpoint": str(tiny_oss)} for name in ("a", "b")]
    sections = {"models": [model | {"route_prefix": f"/{model['model_id']}"} for model in models]}
    path = tmp_path / "serve.yaml"
    path.write_text(yaml.safe_dump(sections))
    return path


def test_without_keys_nothing_is_built(config: Path) -> None:
    from serve_apps.serve_builder import BuilderArgs, build

    with pytest.raises(ConfigError, match="there are no API keys"):
        build(BuilderArgs(config=config, model="a"))


def test_the_named_model_is_built_and_requires_keys(config: Path, tiny_oss: Path) -> None:
    from serve_apps.serve_builder import BuilderArgs, build

    store = KeyStore()
    store.create("someone")
    with pytest.raises(ConfigError, match=r"args.model is None; the file's models: a, b. Set args.model"):
        build(BuilderArgs(config=config))
    app: Any = build(BuilderArgs(config=config, model="b", overrides=("models.1.replicas.num_cpus=2",)))
    bound = app._bound_deployment
    model, location, version, _, access = bound.init_args
    assert (model.model_id, location, version, access.key_file) == ("b", str(tiny_oss), "tiny-oss-random/0", store.path)
    assert bound.ray_actor_options["num_cpus"] == 2
    assert not access.keeps_usage, "without a database, each node would have a ledger of its own"
    store.create("with a budget", tokens_per_month=1)
    with pytest.raises(ClusterError, match="has a budget per month"):
        build(BuilderArgs(config=config, model="b"))


def test_responses_are_stored_in_a_database_only(config: Path, postgresql: PostgresqlServer) -> None:
    """A cluster of Serve's own config may have several nodes, each of which would have a file of its own."""
    from serve_apps.serve_builder import BuilderArgs, build

    KeyStore().create("someone")
    storing = ("responses.store=true",)
    with pytest.raises(ConfigError, match=r"responses\.store is true\. .*Set database to a PostgreSQL database"):
        build(BuilderArgs(config=config, model="a", overrides=storing))
    database = {"url": postgresql.create_database(), "password_file": str(postgresql.password_file)}
    storing = (*storing, f"database={json.dumps(database)}")
    app: Any = build(BuilderArgs(config=config, model="a", overrides=storing))
    assert app._bound_deployment.init_args[-1].database.url == database["url"]


@pytest.mark.parametrize(("hard_stop_s", "is_too_short"), [(None, True), ("629", True), ("630", False)])
def test_a_haproxy_that_would_cut_answers_is_named_in_the_log(
    config: Path,
    hard_stop_s: str | None,
    is_too_short: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    from serve_apps.serve_builder import BuilderArgs, build

    KeyStore().create("someone")
    monkeypatch.setattr(logging.getLogger("ray.serve"), "propagate", True)
    monkeypatch.setenv("RAY_SERVE_ENABLE_HA_PROXY", "1")
    monkeypatch.delenv("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", raising=False)
    if hard_stop_s is not None:
        monkeypatch.setenv("RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S", hard_stop_s)
    build(BuilderArgs(config=config, model="a"))
    # A set, because caplog sees a record in each logger of Ray's that it passes.
    warnings = {record.getMessage() for record in caplog.records if "HAProxy cuts answers" in record.getMessage()}
    assert len(warnings) == is_too_short
    assert all(f"{hard_stop_s or 120} s after" in text and "needs 630 s" in text for text in warnings)
