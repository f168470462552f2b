"""Config loading: a YAML file with the fields that differ from the defaults, then `--set a.b=c` overrides."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tuneyard.core.errors import ConfigError
from tuneyard.core.home import absolute_path, expand_path
from tuneyard.core.path_fields import ENV_PREFIX, holds_secret
from tuneyard.core.strict_model import StrictConfig
from tuneyard.core.wording import count_of, listed
from tuneyard.core.yaml_files import parse_yaml

ConfigT = TypeVar("ConfigT", bound=StrictConfig)


def load_config(cls: type[ConfigT], path: Path | None, overrides: Sequence[str] = ()) -> ConfigT:
    """The validated config of a YAML file or of `env:NAME`, after the overrides, each `a.b=value`.

    None for `path` is an empty file. Raises ConfigError with the file, every wrong field and the fix.
    """
    if path is None:
        return _validated(cls, {}, Path("--set"), Path.cwd(), overrides)
    path = Path(expand_path(str(path)))
    data = parse_yaml(_config_text(path), str(path))
    return _validated(cls, {} if data is None else data, path, path.resolve().parent, overrides)


def top_level_fields(path: Path) -> set[str]:
    """The names of the fields that a config file sets at its top level. Raises ConfigError if it cannot be read."""
    path = Path(expand_path(str(path)))
    data = parse_yaml(_config_text(path), str(path))
    return {str(name) for name in data} if isinstance(data, dict) else set()


def parse_config(cls: type[ConfigT], data: object, path: Path) -> ConfigT:
    """The validated config of `data`, which Tuneyard wrote into the file at `path`. Raises ConfigError."""
    return _validated(cls, data, path, path.parent, ())


def _validated(cls: type[ConfigT], data: Any, path: Path, base_dir: Path, overrides: Sequence[str]) -> ConfigT:
    """The config of parsed YAML; `path` names it in messages, and its relative paths begin at `base_dir`."""
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: the top level must be a mapping of fields; found a {type(data).__name__}.")
    for override in overrides:
        _apply_override(data, override)
    try:
        return cls.model_validate(data, context={"base_dir": base_dir})
    except ValidationError as e:
        raise ConfigError(f"{path}: {_explain(e, cls)}") from e


def _config_text(path: Path) -> str:
    name = str(path)
    if name.startswith(ENV_PREFIX):
        variable = name.removeprefix(ENV_PREFIX)
        if variable not in os.environ:
            raise ConfigError(f"{name}: the environment variable {variable} is not set.")
        return os.environ[variable]
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise ConfigError(
            f"{path}: no such config file. Shipped configs are in jobs/configs/ and serve_apps/configs/."
        ) from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: the file cannot be read as UTF-8 text: {e}") from e


def _apply_override(data: dict[str, Any], override: str) -> None:
    """Sets the field of `a.b=value` in `data`. The value is parsed as YAML, so it can be a number or a list.

    Errors do not show values, which may hold a secret.
    """
    dotted, equals, raw = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        shown = re.sub(r"[^\w.].*", "…", dotted, flags=re.DOTALL)
        raise ConfigError(f"--set {shown}: expected field.name=value, for example --set training.epochs=2.")
    value = parse_yaml(raw, f"--set {dotted}")
    if isinstance(value, str) and value.startswith(("./", "../", "~/")):
        value = str(absolute_path(value))
    node: Any = data
    for depth, key in enumerate(keys):
        index: Any = key
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                parent = ".".join(keys[:depth])
                raise ConfigError(
                    f"--set {dotted}: {parent} is a list with {count_of(len(node), 'item')}. "
                    f"Write {parent}.0 for the first one."
                )
            index = int(key)
        elif not isinstance(node, dict):
            raise ConfigError(f"--set {dotted}: {keys[depth - 1]} is a {type(node).__name__}, which has no fields.")
        if depth == len(keys) - 1:
            node[index] = value
        else:
            node = node[index] if isinstance(node, list) else node.setdefault(index, {})


def _explain(error: ValidationError, cls: type[BaseModel]) -> str:
    """Pydantic's problems, one per line. For an unknown field, the line names the known fields."""
    lines = []
    for problem in error.errors():
        field = ".".join(str(key) for key in problem["loc"]) or "(the whole file)"
        # A required field that is absent has the section around it as its input.
        is_hidden = problem["type"] == "missing" or _shows_secret(problem["input"])
        found = "" if is_hidden else f" (found {problem['input']!r})"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(cls, problem["loc"][:-1]))
            lines.append(f"{field}: unknown field. Known here: {known}.")
        elif problem["type"] == "model_type" and (known := ", ".join(_fields_at(cls, problem["loc"]))):
            lines.append(f"{field}: must be a section{found}. Its fields: {known}.")
        elif problem["type"] == "value_error":
            # From Tuneyard's own validators, whose messages hold the value already.
            lines.append(f"{field}: {problem['ctx']['error']}.")
        else:
            lines.append(f"{field}: {problem['msg']}{found}.")
    return f"{count_of(len(lines), 'problem')}\n{listed(lines)}"


def _shows_secret(value: object) -> bool:
    """Whether a value of a YAML file, printed whole, shows a secret."""
    if isinstance(value, dict):
        return any(map(_shows_secret, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_shows_secret, value))
    return isinstance(value, str) and holds_secret(value)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """The config models in a type such as `Model`, `Model | None` or `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]


def _fields_at(cls: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The field names of the config model at the path `loc` in `cls`; none if that is not exactly one model."""
    for key in loc:
        if isinstance(key, int):
            continue
        field = cls.model_fields.get(key)
        models = _models_in(field.annotation) if field else []
        if len(models) != 1:
            return []
        cls = models[0]
    return sorted(cls.model_fields)
