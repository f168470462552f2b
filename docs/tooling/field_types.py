"""Type, limits, unit and default of a config field, in plain words."""

from __future__ import annotations

import enum
import inspect
import sys
import types
import typing
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

ALIASES = {
    "AbsolutePath": "path",
    "ConfigLocation": "path",
    "DataLocation": "path, URI or `hf:` name",
    "StorageLocation": "path or URI",
}
"""Words for the library's own `Annotated` types, by the name under which a config module imports them."""

PLAIN_TYPES: dict[Any, str] = {
    Any: "any value",
    bool: "true or false",
    dict: "mapping",
    float: "number",
    int: "whole number",
    str: "text",
}
PLURALS = {
    "any value": "any values",
    "number": "numbers",
    "path": "paths",
    "text": "texts",
    "whole number": "whole numbers",
    "section": "sections",
}
UNITS = {"bytes": "bytes", "gib": "GiB", "mib": "MiB", "ms": "milliseconds", "s": "seconds"}
"""Units by the part of a field's name that gives them, as in `timeout_s`."""

FIXED_FACTORIES = (dict, list, tuple, set)
"""Default factories whose value does not depend on the machine."""


def type_hint(model: type[BaseModel], name: str) -> Any:
    """The annotation of a field as its class declares it, with `Annotated` kept."""
    for owner in model.__mro__:
        if name in inspect.get_annotations(owner):
            return inspect.get_annotations(owner, eval_str=True)[name]
    raise KeyError(f"{model.__name__} has no field {name}")


def nested_model(hint: Any) -> type[BaseModel] | None:
    """The config model inside a type such as `Model`, `Model | None` or `tuple[Model, ...]`; None without one."""
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    return next((model for part in typing.get_args(hint) if (model := nested_model(part))), None)


def is_list(hint: Any) -> bool:
    """Whether a type is a list or a tuple."""
    return typing.get_origin(hint) in (list, tuple)


def is_mapping(hint: Any) -> bool:
    """Whether a type is a mapping."""
    return typing.get_origin(hint) is dict


def describe_type(model: type[BaseModel], name: str) -> str:
    """The type of a field in plain words, with its limits and its unit."""
    field = model.model_fields[name]
    words = _describe_hint(type_hint(model, name), vars(sys.modules[model.__module__]))
    unit = next((UNITS[part] for part in name.split("_")[1:] if part in UNITS), None)
    if unit is not None:
        words = words.replace("number", f"number of {unit}")
    return ", ".join([words, *_limits(field)])


def describe_default(field: FieldInfo) -> str:
    """`required`, or the default in YAML."""
    if field.is_required():
        return "required"
    if field.default_factory is not None and field.default_factory not in FIXED_FACTORIES:
        return "default set by the environment"
    value = field.get_default(call_default_factory=True)
    assert value is not PydanticUndefined
    return f"default `{_to_yaml(value)}`"


def _to_yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple | set) else value.value if isinstance(value, enum.Enum) else value
    if not isinstance(plain, str | int | float | list | dict | None):
        plain = str(plain)
    return yaml.safe_dump(plain, default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _describe_hint(hint: Any, names: dict[str, Any]) -> str:
    """A type in plain words; `names` are the globals of the module that declares it."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        alias = next((name for name, value in names.items() if name in ALIASES and value == hint), None)
        return ALIASES[alias] if alias else _describe_hint(arguments[0], names)
    if origin is typing.Literal:
        return _choice([f"`{value}`" for value in arguments])
    if origin in (types.UnionType, typing.Union):
        parts = [_describe_hint(part, names) for part in arguments if part is not types.NoneType]
        if types.NoneType in arguments:
            parts.append("null")
        return " or ".join(part.replace(" or ", ", ") for part in parts[:-1]) + f" or {parts[-1]}"
    if origin in (list, tuple):
        return f"list of {_plural(_describe_hint(arguments[0], names))}"
    if origin is dict:
        values = _describe_hint(arguments[1], names)
        return "mapping" if values == "any value" else f"mapping of names to {_plural(values)}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _choice([f"`{member.value}`" for member in hint])
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return "section"
    return PLAIN_TYPES.get(hint) or str(getattr(hint, "__name__", hint))


def _choice(values: list[str]) -> str:
    return values[0] if len(values) == 1 else f"{', '.join(values[:-1])} or {values[-1]}"


def _plural(words: str) -> str:
    if words.startswith("list of "):
        return "lists of " + words.removeprefix("list of ")
    return PLURALS.get(words, words)


def _limits(field: FieldInfo) -> list[str]:
    """The limits of a field: `at least 1`, `greater than 0`, a pattern."""
    texts = {"ge": "at least {}", "gt": "greater than {}", "le": "at most {}", "lt": "less than {}"}
    texts |= {"min_length": "{} or more entries", "max_length": "at most {} entries", "pattern": "matching `{}`"}
    limits = {}
    for rule in field.metadata:
        for name in texts:
            value = getattr(rule, name, None)
            if value is not None:
                limits[name] = value
    if "ge" in limits and "le" in limits:
        return [f"{limits.pop('ge')} to {limits.pop('le')}", *(texts[k].format(v) for k, v in limits.items())]
    return [texts[name].format(value) for name, value in limits.items()]
