"""An application for Ray Serve's own config files, as a RayService has them: `serve_apps.serve_builder:build`."""

from __future__ import annotations

from pathlib import Path

from ray.serve import Application

from serve_apps.deployment import check_model, key_store
from serve_apps.model_app import Access, build_app
from tuneyard.api.admin_key import load_admin_key
from tuneyard.configs.serve import HttpConfig, ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError
from tuneyard.core.strict_model import StrictModel


class BuilderArgs(StrictModel):
    """What stands under `args` in Serve's file. `config`: a deployment's file, absolute, on the cluster; `model` picks
    one of its models, which it needs not when there is one.
    """

    config: Path
    model: str | None = None
    overrides: tuple[str, ...] = ()


def build(args: BuilderArgs) -> Application:
    """The application of one model, its checkpoint proved and API keys asked for: here nobody can tell who reaches the
    port. Raises as Deployment does, and ConfigError when it is not said which model.
    """
    config = load_config(ServeConfig, args.config, args.overrides)
    known = [model.model_id for model in config.models]
    chosen = [model for model in config.models if args.model in (None, model.model_id)]
    if len(chosen) != 1:
        raise ConfigError(f"{args.config}: args.model is {args.model!r}; its models: {', '.join(known)}. Name one.")
    keys = key_store(HttpConfig(host="0.0.0.0"))
    assert keys is not None
    model = check_model(chosen[0])
    return build_app(model.config, model.checkpoint, model.version, model.codec, Access(load_admin_key(), keys.path))
