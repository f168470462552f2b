"""Problems of a request are found without an object for each."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import tuneyard.api.wire
from tuneyard.api.wire.base import FAIL_FAST, MAX_FIELDS, Items, RequestModel
from tuneyard.core.errors import RequestError


class Part(RequestModel):
    """A part of Body."""

    texts: list[str] | None = None
    numbers: dict[str, int] | None = None
    pairs: list[list[int] | str] | None = None


class Body(RequestModel):
    """A request with arrays and maps at several depths, and fields that are called as keys of a schema."""

    type: list[int] | None = None
    metadata: dict[str, str] | None = None
    parts: Items[Part] = ()
    union: str | list[int] | list[Part] = ""


wrong = st.sampled_from([None, 1.5, {"x": 1}, [[]]])
arrays = st.builds(lambda item, count: [item] * count, wrong, st.sampled_from([1, 50, 5000]))
maps = arrays.map(lambda items: {f"k{i}": item for i, item in enumerate(items)})
parts = st.fixed_dictionaries({}, optional={"texts": arrays, "numbers": maps, "pairs": arrays})
bodies = st.fixed_dictionaries(
    {},
    optional={
        "type": arrays,
        "metadata": maps,
        "parts": arrays | st.lists(parts, max_size=3),
        "union": arrays | st.lists(parts, max_size=3),
    },
)


@given(body=bodies | maps)
def test_the_number_of_problems_does_not_grow_with_the_body(body: dict[str, Any]) -> None:
    try:
        Body.model_validate(body)
    except ValidationError as e:
        assert e.error_count() <= max(30, MAX_FIELDS)
        assert e.error_count() <= 30 or not set(body) <= set(Body.model_fields)


def test_the_first_problem_is_the_one_that_is_told() -> None:
    with pytest.raises(RequestError) as raised:
        Body.parse({"type": [1, 2, "x", "y"], "parts": [{}, {"texts": [1]}]})
    assert raised.value.param == "type.2"


def test_an_object_with_very_many_fields_is_refused_as_a_whole() -> None:
    with pytest.raises(RequestError, match=f"must have at most {MAX_FIELDS} fields, found 1001") as raised:
        Body.parse({"parts": [{f"k{i}": 1 for i in range(1001)}]})
    assert raised.value.param == "parts.0"


def arrays_without_end(schema: Any) -> Iterator[Any]:
    """Arrays of a core schema that go on after a problem."""
    if isinstance(schema, dict):
        kind = schema.get("type")
        if isinstance(kind, str) and kind in FAIL_FAST and not schema.get("fail_fast"):
            yield schema
        for name, part in schema.items():
            if not isinstance(kind, str) or name not in ("metadata", "default"):
                yield from arrays_without_end(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from arrays_without_end(part)


def subclasses(model: type[RequestModel]) -> Iterator[type[RequestModel]]:
    for child in model.__subclasses__():
        yield child
        yield from subclasses(child)


def test_all_arrays_of_all_requests_end_with_their_first_problem() -> None:
    for module in pkgutil.walk_packages(tuneyard.api.wire.__path__, "tuneyard.api.wire."):
        importlib.import_module(module.name)
    models = list(subclasses(RequestModel))
    assert len(models) > 40
    left = {model.__qualname__: list(arrays_without_end(model.__pydantic_core_schema__)) for model in models}
    assert not [name for name, found in left.items() if found]
