"""The application that Serve's own config files build: one model, never without API keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tuneyard.api.api_keys import KeyStore
from tuneyard.core.errors import ConfigError

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


def test_stored_responses_are_refused(config: Path) -> None:
    """A cluster of Serve's own config may have several nodes, each of which would have a database of its own."""
    from serve_apps.serve_builder import BuilderArgs, build

    with pytest.raises(ConfigError, match=r"responses\.store is true\. .*Set responses\.store: false"):
        build(BuilderArgs(config=config, model="a", overrides=("responses.store=true",)))
