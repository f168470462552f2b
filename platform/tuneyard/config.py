"""Strict, frozen config models, loaded from sparse YAML with `--set a.b=c` on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, ValidationInfo

from tuneyard.errors import ConfigError
from tuneyard.home import tuneyard_home


class StrictConfig(BaseModel):
    """Base of all configs: unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _absolute(value: object, info: ValidationInfo) -> object:
    """A path made absolute against the config file's folder.

    Ray moves workers to another working directory, so no relative path may outlive loading.
    """
    if not isinstance(value, str | Path):
        return value
    base = (info.context or {}).get("base_dir", Path.cwd())
    expanded = str(value).replace("$TUNEYARD_HOME", str(tuneyard_home()))
    return str((Path(base) / Path(expanded).expanduser()).resolve())


AbsolutePath = Annotated[Path, BeforeValidator(_absolute)]
"""A path: relative to the config file; `$TUNEYARD_HOME` and `~` expand.

A `--set` path that starts with `./` or `../` is relative to the working directory.
"""


def _location(value: object, info: ValidationInfo) -> object:
    """A path made absolute; what names another place (`s3://…`, `hf:…`) is left as it is."""
    if isinstance(value, str) and ("://" in value or value.startswith("hf:")):
        return value
    return _absolute(value, info)


DataLocation = Annotated[str, BeforeValidator(_location)]
"""A file or folder (see AbsolutePath), a URI that pyarrow.fs knows, or `hf:owner/name[:split]`."""

ConfigT = TypeVar("ConfigT", bound=StrictConfig)


def load_config(cls: type[ConfigT], path: Path, overrides: Sequence[str] = ()) -> ConfigT:
    """The validated config of a YAML file, with `a.b=value` overrides on top.

    Raises ConfigError that names the file, each wrong field and the fix.
    """
    path = Path(path).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such config file. Look in jobs/configs/ and serve_apps/configs/.") from e
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {e}") from e
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
    node = data
    for key in keys[:-1]:
        child = node.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {key} holds {child!r}, which has no fields.")
        node = child
    node[keys[-1]] = value


def _explain(error: ValidationError, cls: type[BaseModel]) -> str:
    """Pydantic's problems, one a line, with the known fields where a field is unknown."""
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(the whole file)"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_fields_at(cls, problem["loc"][:-1]))
            lines.append(f"{where}: unknown field. Known here: {known}.")
        else:
            lines.append(f"{where}: {problem['msg']} (found {problem['input']!r}).")
    head = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
    return head + "\n  " + "\n  ".join(lines)


def _fields_at(cls: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The field names of the config model at a path inside cls."""
    for part in loc:
        field = cls.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        cls = inner
    return sorted(cls.model_fields)
