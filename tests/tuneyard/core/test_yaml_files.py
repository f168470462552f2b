"""YAML parsing: duplicate keys are refused, and PyYAML's output is read back unchanged."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import ConfigError
from tuneyard.core.yaml_files import parse_yaml

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text("abcäß: #-'\"{}[]\n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc_", min_size=1), inner, max_size=3),
)


@given(PLAIN)
def test_reads_the_output_of_pyyaml(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value), "x.yaml") == value


@given(st.text())
def test_any_text_is_parsed_or_refused_with_its_source(text: str) -> None:
    try:
        parse_yaml(text, "x.yaml")
    except ConfigError as e:
        assert str(e).startswith("x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r'x\.yaml, line 3: not valid YAML: found duplicate key "a"'),
        ("run: {name: x, name: y}", r'x\.yaml, line 1: .*duplicate key "name"'),
        ("a: [1", r"x\.yaml, line 1: not valid YAML: expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", r"x\.yaml, line 2: "),
        ("a: 2026-13-45", r"x\.yaml: not valid YAML: a value cannot be read: month must be in 1..12"),
        ("[" * 3000, r"x\.yaml: not valid YAML: nested too deeply"),
        ("!!python/object/apply:os.system [ls]", r"x\.yaml, line 1: not valid YAML: could not determine a constructor"),
    ],
)
def test_errors_name_the_line_and_the_problem(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text, "x.yaml")


def test_numbers_with_an_exponent_are_numbers() -> None:
    assert parse_yaml("learning_rate: 1e-4", "x.yaml") == {"learning_rate": 1e-4}
