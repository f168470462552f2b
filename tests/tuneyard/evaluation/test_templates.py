"""Templates: variables are found and rendered, text stays text, and whatever is no variable is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import EvaluationError
from tuneyard.evaluation.templates import Template, Variable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.text(st.characters(exclude_characters="'}", exclude_categories=["Cs"]), max_size=8)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ item.a }} and {{item.a}}", "x and x"),
        ("{{ sample.output_tools[0].function.name }}", "seal"),
        ("{{item.list[1]}}{{ item.list.0 }}", "truenull"),
        ("{{ item['two words'].deep-key }}", "1.5"),
        ('{{ item["two words"] }}', '{"deep-key": 1.5}'),
        ('{"a": {"b": {{ item.n }}}}', '{"a": {"b": 7}}'),
        ("{{{item.a}}}", "{x}"),
        ('{{"no variable"}} {{ 1 }} {{}} { item.a } }}', '{{"no variable"}} {{ 1 }} {{}} { item.a } }}'),
        ("{{ item.braces }}", "{{ item.a }}"),
        ("", ""),
    ],
)
def test_variables_are_rendered_and_other_text_stays(text: str, rendered: str) -> None:
    item = {"a": "x", "n": 7, "list": [None, True], "two words": {"deep-key": 1.5}, "braces": "{{ item.a }}"}
    sample = {"output_tools": [{"function": {"name": "seal"}}]}
    assert Template.parse(text).render({"item": item, "sample": sample}) == rendered


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ item.a", "'{{ item.a' has no closing }}"),
        ("{{ itm.a }}", "'itm.a' must begin with item or sample"),
        ("{{ item.a | upper }}", "'item.a | upper' is no variable"),
        ("{{ item..a }}", "is no variable"),
        ("{{ item.a + 1 }}", "is no variable"),
        ("{{ item[x] }}", "is no variable"),
        ("{{ config }}", "'config' must begin with item or sample"),
        ("{{ item.__class__.__init__() }}", "is no variable"),
    ],
)
def test_what_is_no_variable_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("|", r"\|").replace("}", r"\}").replace("{", r"\{")):
        Template.parse(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ item.b }}", r"\{\{ item.b \}\} is not defined: item has a, list\."),
        ("{{ item.a.b }}", "item.a is a text"),
        ("{{ item.list[2] }}", "item.list is an array of 2"),
        ("{{ item.list.x }}", "item.list is an array of 2"),
        ("{{ item.list[0].x }}", r"item.list\[0\] is null"),
        ("{{ sample.output_text }}", "this run has no sample"),
    ],
)
def test_a_variable_without_a_value_is_an_error_that_says_what_there_is(text: str, reason: str) -> None:
    with pytest.raises(EvaluationError, match=reason) as caught:
        Template.parse(text).render({"item": {"a": "x", "list": [None, True]}, "sample": None})
    assert caught.value.kind == "variable"


@given(st.text())
def test_any_text_is_a_template_or_refused_with_a_reason(text: str) -> None:
    try:
        template = Template.parse(text)
    except ValueError as e:
        assert str(e)
        return
    if not template.variables:
        assert template.render({}) == text


@given(parts=st.lists(st.text(st.characters(exclude_characters="{}")), min_size=2, max_size=6), value=JSON)
def test_only_variables_change_and_values_are_never_templates(parts: list[str], value: Any) -> None:
    rendered = Template.parse("{{ item.v }}".join(parts)).render({"item": {"v": value}})
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    assert rendered == shown.join(parts)


@given(st.lists(KEYS | st.integers(0, 3), max_size=4), JSON)
def test_a_path_finds_the_value_that_lies_there(path: list[str | int], value: Any) -> None:
    nested = value
    for step in reversed(path):
        nested = [*[None] * step, nested] if isinstance(step, int) else {step: nested}
    text = "item.root" + "".join(f"[{step}]" if isinstance(step, int) else f"['{step}']" for step in path)
    variable = Variable.parse(text)
    assert variable.path == ("root", *path)
    assert variable.resolve({"item": {"root": nested}}) == value
