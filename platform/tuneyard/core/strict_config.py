"""Strict, frozen config models, loaded from sparse YAML with `--set a.b=c` on top."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from tuneyard.core.errors import ConfigError
from tuneyard.core.home import expand_home

ENV_PREFIX = "env:"
"""`env:NAME` in place of a config's path: its text is the variable's."""


class StrictConfig(BaseModel):
    """Base of all configs: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def resolved_path(value: object, info: ValidationInfo) -> object:
    """For validators: a path made absolute against the config file's folder.

    Ray moves workers to another working directory, so no relative path may outlive loading.
    """
    if not isinstance(value, str | Path):
        return value
    base = (info.context or {}).get("base_dir", Path.cwd())
    expanded = expand_home(str(value))
    return str((Path(base) / Path(expanded).expanduser()).resolve())


AbsolutePath = Annotated[Path, BeforeValidator(resolved_path)]
"""A path: relative to the config file; `$TUNEYARD_HOME` and `~` expand.

A `--set` path that starts with `./` or `../` is relative to the working directory.
"""


def without_password(uri: str) -> str:
    """The URI. Raises ValueError when it holds a password: configs are written into runs, manifests and logs."""
    parts = urlsplit(uri)
    if parts.password is not None:
        raise ValueError(
            f"the URI of {parts.scheme}://{parts.hostname} holds a password, which would be written wherever the "
            "location is. Give it in the environment: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return uri


def _location(value: object, info: ValidationInfo) -> object:
    """A path made absolute; what names another place (`s3://…`, `hf:…`) is left as it is."""
    if isinstance(value, str) and ("://" in value or value.startswith("hf:")):
        return without_password(value)
    return resolved_path(value, info)


DataLocation = Annotated[str, BeforeValidator(_location)]
"""A file or folder (see AbsolutePath), a URI that pyarrow.fs knows, or `hf:owner/name[:split]`."""


def _config_location(value: object, info: ValidationInfo) -> object:
    return value if isinstance(value, str) and value.startswith(ENV_PREFIX) else resolved_path(value, info)


ConfigLocation = Annotated[str, BeforeValidator(_config_location)]
"""Another config: its file (see AbsolutePath), or `env:NAME`."""

ConfigT = TypeVar("ConfigT", bound=StrictConfig)


def load_config(cls: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """The validated config of a YAML file (or `env:NAME`), with `a.b=value` overrides on top.

    Raises ConfigError that names the file, each wrong field and the fix.
    """
    path = Path(path).expanduser()
    text = _config_text(path)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as e:
        raise ConfigError(f"{path}: not valid YAML: {e}") from e
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
    try:
        value = yaml.safe_load(raw)
    except yaml.YAMLError as e:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {e}") from e
    if isinstance(value, str) and value.startswith(("./", "../", "~/")):
        value = str(Path(value).expanduser().resolve())
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
    head = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return head + "\n  " + "\n  ".join(lines)


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
