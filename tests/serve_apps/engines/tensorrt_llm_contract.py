"""Compares the installed package tensorrt_llm, the fake or the real one, with tensorrt_llm_contract.json."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
from collections.abc import Iterator
from typing import Any

from serve_apps.engines.tensorrt_llm_compatibility import CONTRACT


def versions() -> list[str]:
    """The versions that the contract has a column for."""
    return sorted(json.loads(CONTRACT.read_bytes()))


def contract(version: str) -> dict[str, Any]:
    """What the engine uses of a version of tensorrt_llm."""
    used: dict[str, Any] = json.loads(CONTRACT.read_bytes())[version]
    return used


def differences(version: str) -> list[str]:
    """What the contract lists and the installed package does not have, one message each."""
    return [*_functions(version), *_fields(version), *_attributes(version), *_errors(version)]


def resolve(path: str) -> Any:
    """The object at a dotted path. Raises AttributeError or ImportError if it does not exist."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            value = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            value = getattr(value, part)
        return value
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
            kind = resolve(path)
        except (AttributeError, ImportError) as e:
            yield f"{path}: {e}"
            continue
        yield from (f"{path}: no field {name}" for name in names if name not in field_names(kind))


def field_names(kind: Any) -> set[str]:
    """Names of the fields of a pydantic model or a dataclass, with pydantic's aliases."""
    if hasattr(kind, "model_fields"):
        return {field.alias or name for name, field in kind.model_fields.items()} | set(kind.model_fields)
    return {field.name for field in dataclasses.fields(kind)}


def _attributes(version: str) -> Iterator[str]:
    """Missing attributes of instances: not on the class, not a dataclass field, not set in the class's code."""
    for path, names in contract(version)["attributes"].items():
        try:
            kind = resolve(path)
        except (AttributeError, ImportError) as e:
            yield f"{path}: {e}"
            continue
        known = set(dir(kind)) | (field_names(kind) if dataclasses.is_dataclass(kind) else set())
        source = "".join(inspect.getsource(base) for base in kind.__mro__[:-1])
        yield from (
            f"{path}: no attribute {name}" for name in names if name not in known and f"self.{name}" not in source
        )


def _errors(version: str) -> Iterator[str]:
    for path, base in contract(version)["errors"].items():
        if base not in {kind.__name__ for kind in resolve(path).__mro__}:
            yield f"{path}: is not a subclass of {base}"
