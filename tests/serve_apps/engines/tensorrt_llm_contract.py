"""Holds a package named tensorrt_llm, the fake or the real one, against the adapter's contract."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator
from typing import Any

from serve_apps.engines.tensorrt_llm_engine import CONTRACT


def contract(version: str) -> dict[str, Any]:
    """What the adapter uses of a version."""
    found: dict[str, Any] = json.loads(CONTRACT.read_bytes())[version]
    return found


def differences(version: str) -> list[str]:
    """What the contract names and the installed package lacks."""
    return [*_functions(version), *_fields(version), *_attributes(version), *_errors(version)]


def resolve(path: str) -> Any:
    """The object that a dotted path names. Raises AttributeError or ImportError when there is none."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


def _functions(version: str) -> Iterator[str]:
    for path, parameters in contract(version)["functions"].items():
        try:
            known = inspect.signature(resolve(path)).parameters
        except (AttributeError, ImportError) as e:
            yield f"{path}: {e}"
            continue
        accepts_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
        yield from (f"{path}: no parameter {name}" for name in parameters if name not in known and not accepts_any)


def _fields(version: str) -> Iterator[str]:
    for path, names in contract(version)["fields"].items():
        try:
            found = resolve(path)
        except (AttributeError, ImportError) as e:
            yield f"{path}: {e}"
            continue
        yield from (f"{path}: no field {name}" for name in names if name not in field_names(found))


def field_names(kind: Any) -> set[str]:
    """Of a pydantic model or a dataclass."""
    if hasattr(kind, "model_fields"):
        return {field.alias or name for name, field in kind.model_fields.items()} | set(kind.model_fields)
    return {field.name for field in dataclasses.fields(kind)}


def _attributes(version: str) -> Iterator[str]:
    """Attributes of instances: as a dataclass's fields, or named in the class's code."""
    for path, names in contract(version)["attributes"].items():
        try:
            found = resolve(path)
        except (AttributeError, ImportError) as e:
            yield f"{path}: {e}"
            continue
        known = set(dir(found)) | (field_names(found) if dataclasses.is_dataclass(found) else set())
        source = "".join(inspect.getsource(base) for base in found.__mro__[:-1])
        yield from (
            f"{path}: no attribute {name}" for name in names if name not in known and f"self.{name}" not in source
        )


def _errors(version: str) -> Iterator[str]:
    for path, base in contract(version)["errors"].items():
        if base not in {kind.__name__ for kind in resolve(path).__mro__}:
            yield f"{path}: is no {base}"
