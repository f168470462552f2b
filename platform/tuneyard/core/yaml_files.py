"""YAML parsing that rejects duplicate keys; PyYAML silently keeps only the last one."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from tuneyard.core.errors import ConfigError


def parse_yaml(text: str, source: str) -> Any:
    """The single document in `text`, parsed as YAML 1.2; None if the text holds none.

    Raises ConfigError with `source` and the line for invalid YAML and for a key that a mapping holds twice; with
    `source` for a value that is no value of its type, such as the date 2026-13-45, and for text nested too deeply.
    """
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError as e:
        raise ConfigError(f"{source}{_explain(e)}") from e
    except RecursionError as e:
        raise ConfigError(f"{source}: not valid YAML: nested too deeply.") from e
    except (ValueError, LookupError, AttributeError) as e:
        raise ConfigError(f"{source}: not valid YAML: a value cannot be read: {e}. Put it in quotes.") from e


def _explain(error: YAMLError) -> str:
    """The line and the problem, without the source excerpt and the hint on duplicate keys that ruamel.yaml adds."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f": not valid YAML: {error}"
    return f", line {mark.line + 1}: not valid YAML: {problem}."
