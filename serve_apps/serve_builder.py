"""Builds the application of one model for Ray Serve's own config files: `serve_apps.serve_builder:build`."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ray.serve import Application

from serve_apps.deployment.checked_model import check_model
from serve_apps.deployment.required_keys import required_key_store
from serve_apps.deployment.usage_storage import check_usage_storage
from serve_apps.http_front.access import Access
from serve_apps.model_app.application import build_app
from serve_apps.tracing.tracing import tracing_options
from tuneyard.api.admin_key import load_admin_key
from tuneyard.cluster.haproxy import configured_hard_stop_s, required_hard_stop_s, too_short_fix, too_short_text
from tuneyard.configs.serve import HttpConfig, ModelAppConfig, ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError
from tuneyard.core.strict_model import StrictModel


class BuilderArgs(StrictModel):
    """The section `args` of an application in Serve's config file, as a RayService holds it."""

    config: Path
    """Absolute path of a deployment's config file on the cluster's nodes."""

    model: str | None = None
    """The model_id to serve, one of the file's models. Optional if the file has one model."""

    overrides: tuple[str, ...] = ()
    """Changes to the file's fields, each `FIELD=VALUE`, as with --set."""


def build(args: BuilderArgs) -> Application:
    """The application of one model, with its checkpoint proved. It always requires API keys.

    Serve's own config decides who can reach the port, so an open API cannot be ruled out here. Raises what check_model
    raises, and ConfigError if there are no API keys, `args.model` picks no single model, or responses are to be stored
    in SQLite.
    """
    config = load_config(ServeConfig, args.config, args.overrides)
    known = [model.model_id for model in config.models]
    chosen = [model for model in config.models if args.model in (None, model.model_id)]
    if len(chosen) != 1:
        raise ConfigError(
            f"{args.config}: args.model is {args.model!r}; the file's models: {', '.join(known)}. Set args.model to "
            "one of them."
        )
    if config.responses.store and config.database is None:
        raise ConfigError(
            f"{args.config}: responses.store is true. Stored responses are in a SQLite database of one node, and a "
            "cluster that Serve's own config describes may grow to several. Set database to a PostgreSQL database, or "
            "responses.store: false."
        )
    keys = required_key_store(HttpConfig(host="0.0.0.0"))
    assert keys is not None
    _warn_of_cut_answers(chosen[0])
    model = check_model(chosen[0])
    # Serve's own config decides where the API listens: only names that were given explicitly are checked.
    http = config.http.model_copy(
        update={"allowed_hosts": ("*",) if config.http.allowed_hosts is None else config.http.allowed_hosts}
    )
    # The cluster may grow: only a database can keep the usage of all nodes.
    nodes = 2 if config.database is None else 1
    keeps_usage = check_usage_storage(keys, config.database, nodes)
    tracing = tracing_options(config.telemetry, os.environ)
    access = Access(
        load_admin_key(), keys.path, http, config.responses, config.database, tracing, keeps_usage=keeps_usage
    )
    return build_app(model.config, model.checkpoint, model.version, model.codec, access)


def _warn_of_cut_answers(model: ModelAppConfig) -> None:
    """Logs a warning if HAProxy, with the environment of this node, would cut answers that the model allows."""
    required_s = required_hard_stop_s([model.replicas.answer_timeout_s])
    hard_stop_s = configured_hard_stop_s(os.environ)
    if hard_stop_s is not None and hard_stop_s < required_s:
        logging.getLogger("ray.serve").warning(
            "%s: %s. %s", model.model_id, too_short_text(hard_stop_s, required_s), too_short_fix(required_s)
        )
