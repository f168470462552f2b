"""OpenAI's fine-tuning API on a private Ray, as `python -m serve_apps.deploy` starts it, with API keys required."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import yaml

from tests.integration.conftest import write_finetune_config
from tests.integration.processes import Command, free_port, running
from tuneyard.api.api_keys import KeyStore

BASE = "tiny-oss"
"""The base that jobs may name."""

ALIAS = "gpt-4o-mini-2024-07-18"
"""OpenAI's name for it."""

ELSEWHERE = "elsewhere"
"""A base whose workers need a resource that no node has."""

READY = "Ctrl-C stops it"


@dataclass(frozen=True)
class PlatformServer:
    """A running deployment."""

    command: Command
    root: str
    home: Path
    """Its TUNEYARD_HOME: records in `platform.db`, files in `platform/files`."""
    keys: KeyStore
    clients: contextlib.ExitStack
    """Closes the SDK's clients at the end: their connections outlive the tests otherwise."""

    def create_key(self, name: str, **options: Any) -> str:
        """The secret of a new API key."""
        return self.keys.create(name, **options)[1]

    def client(self, secret: str, **options: Any) -> openai.OpenAI:
        """The unmodified SDK."""
        client = openai.OpenAI(base_url=f"{self.root}/v1", api_key=secret, **{"max_retries": 0} | options)
        return self.clients.enter_context(client)

    def http(self, secret: str) -> httpx.Client:
        """A client without an SDK."""
        return httpx.Client(base_url=self.root, headers={"Authorization": f"Bearer {secret}"}, timeout=60)


def platform_config(
    folder: Path,
    base: Path,
    port: int,
    *,
    models: Sequence[Mapping[str, Any]] = (),
    more: Mapping[str, Any] | None = None,
    **platform: Any,
) -> Path:
    """Writes the config of a deployment with the API, whose jobs finetune `base`; returns its path.

    `models` are ModelAppConfigs, `more` has more sections, `platform` fields of the section `platform`. The template
    of jobs has one worker, 12 steps, and a checkpoint every 4. The workers of the base ELSEWHERE can never be placed.
    """
    template = write_finetune_config(folder, base, {"workers": {"num_workers": 1}})
    workers = {"num_workers": 1, "resources_per_worker": {"no_such_node": 1}}
    elsewhere = write_finetune_config(folder / ELSEWHERE, base, {"workers": workers})
    config_of: dict[str, Any] = {
        BASE: {"config": str(template), "aliases": [ALIAS], "replicas": {"num_cpus": 0.3}},
        ELSEWHERE: {"config": str(elsewhere)},
    }
    section = {"bases": config_of} | platform
    bases: Any = section["bases"]
    for served in bases.values():
        served["replicas"] = {
            "num_replicas": None,
            "autoscaling_config": {"min_replicas": 0, "max_replicas": 1},
        } | served.get("replicas", {})
    config = {
        "http": {"port": port, "require_keys": True},
        "gateway": {"num_cpus": 0.1},
        "models": [dict(model) for model in models],
        "platform": section,
    } | dict(more or {})
    path = folder / "platform.yaml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path


@contextlib.contextmanager
def platform_server(
    folder: Path, base: Path, *, models: Sequence[Mapping[str, Any]] = (), **platform: Any
) -> Iterator[PlatformServer]:
    """A deployment on a private Ray of its own; see platform_config. Its home is `folder/home`."""
    folder.mkdir(parents=True, exist_ok=True)
    home, port = folder / "home", free_port()
    home.mkdir(exist_ok=True)
    path = platform_config(folder, base, port, models=models, **platform)
    keys = KeyStore(home / "api_keys.json")
    keys.create("first")  # without any key a deployment that requires keys is refused
    arguments = ("-m", "serve_apps.deploy", "--config", str(path), "--address", "local")
    with running(folder, home, *arguments) as command:
        command.wait_for(lambda: READY in command.output, "the platform")
        with contextlib.ExitStack() as clients:
            yield PlatformServer(command, f"http://127.0.0.1:{port}", home, keys, clients)
        assert command.interrupt() == 0, command.output
