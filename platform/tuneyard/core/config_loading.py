"""Loads a config from sparse YAML, with `--set a.b=c` on top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tuneyard.core.errors import ConfigError
from tuneyard.core.home import absolute_path, expand_path
from tuneyard.core.strict_config import ENV_PREFIX, StrictConfig
from tuneyard.core.wording import count_of, listed
from tuneyard.core.yaml_files import parse_yaml

ConfigT = TypeVar("ConfigT", bound=StrictConfig)


def load_config(cls: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """The validated config of a YAML file (or `env:NAME`), with `a.b=value` overrides on top.

    Raises ConfigError that names the file, each wrong field and the fix.
    """
    path = Path(expand_path(str(path)))
    text = _config_text(path)
    data = parse_yaml(text, str(path))
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of fields, found a {type(data).__name__}.")
    for override in overrides:
        _apply_override(data, override)
    try:
        return cls.model_validate(data, context={"base_dir": path.resolve().parent})
    except ValidationError as e:
        raise ConfigError(f"{path}: {_explain(e, cls)}") from e


def _config_text(path: Path) -> str:
    name = str(path)
    if name.startswith(ENV_PREFIX):
        variable = name.removeprefix(ENV_PREFIX)
        if variable not in os.environ:
            raise ConfigError(f"{name}: the environment has no variable {variable}.")
        return os.environ[variable]
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such config file. Look in jobs/configs/ and serve_apps/configs/.") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from e


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Sets `a.b=value` in data; the value is read as YAML, so numbers and lists work."""
    dotted, equals, raw = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set {override}: expected field.name=value, for example --set training.epochs=2.")
    value = parse_yaml(raw, f"--set {override}")
    if isinstance(value, str) and value.startswith(("./", "../", "~/")):
        value = str(absolute_path(value))
    node: Any = data
    for place, key in enumerate(keys):
        where: Any = key
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                inside = ".".join(keys[:place])
                raise ConfigError(
                    f"--set {override}: {inside} is a list of {len(node)}: write {inside}.0 for its first."
                )
            where = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(f"--set {override}: {keys[place - 1]} holds {node!r}, which has no fields.")
        if place == len(keys) - 1:
            node[where] = value
        else:
            node = node[where] if isinstance(node, list) else node.setdefault(where, {})


def _explain(error: ValidationError, cls: type[BaseModel]) -> str:
    """Pydantic's problems, one a line, with the known fields where a field is unknown."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(the whole file)"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(cls, problem["loc"][:-1]))
            lines.append(f"{where}: unknown field. Known here: {known}.")
        elif problem["type"] == "value_error":
            # Ours, and they say themselves what was found.
            lines.append(f"{where}: {problem['ctx']['error']}.")
        else:
            lines.append(f"{where}: {problem['msg']} (found {problem['input']!r}).")
    return f"{count_of(len(lines), 'problem')}\n{listed(lines)}"


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config models of a type: `Model`, `Model | None`, `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _fields_at(cls: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The field names of the config model at a path inside cls."""
    for part in loc:
        if isinstance(part, int):
            continue
        field = cls.model_fields.get(part)
        inner = _models_in(field.annotation) if field else []
        if len(inner) != 1:
            return []
        cls = inner[0]
    return sorted(cls.model_fields)
