"""YAML that refuses duplicate keys, which PyYAML drops without a word."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuneyard.core.errors import ConfigError


def parse_yaml(text: str, source: str) -> Any:
    """The single document in `text`, read as YAML 1.2; None when there is none.

    Raises ConfigError that names `source` and the line for broken YAML and for a key that stands twice in a mapping.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as e:
        raise ConfigError(f"{source}{_explain(e)}") from e


def _explain(error: YAMLError) -> str:
    """Where and what, without ruamel.yaml's quotation of the source and its advice on duplicate keys."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f": not valid YAML: {error}"
    return f", line {mark.line + 1}: not valid YAML: {problem}."
