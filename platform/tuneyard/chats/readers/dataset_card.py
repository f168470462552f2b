"""The configs and splits that the README of a clone of a Hugging Face dataset declares in its YAML header."""

from __future__ import annotations

from typing import Any

from tuneyard.core.errors import ConfigError
from tuneyard.core.yaml_files import parse_yaml


def declared_configs(readme: str) -> dict[str, list[str]]:
    """The names of the configs, each with the names of its splits; {} if the README declares none.

    Source: https://huggingface.co/docs/hub/datasets-manual-configuration
    """
    if not readme.startswith("---\n"):
        return {}
    try:
        header = parse_yaml(readme.removeprefix("---\n").partition("\n---")[0], "README.md")
    except ConfigError:
        return {}
    configs = header.get("configs") if isinstance(header, dict) else None
    if not isinstance(configs, list):
        return {}
    return {
        str(config["config_name"]): _splits(config.get("data_files"))
        for config in configs
        if isinstance(config, dict) and "config_name" in config
    }


def _splits(data_files: Any) -> list[str]:
    """The splits of `data_files`: a pattern, a list of patterns, or a list of splits with patterns."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    return list(
        dict.fromkeys(str(entry.get("split", "train")) if isinstance(entry, dict) else "train" for entry in entries)
    )
