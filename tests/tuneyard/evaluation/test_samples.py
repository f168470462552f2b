"""Samples of chat completions, and answers with their tool calls as text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.evaluation.samples import Sample, text_with_calls
from tuneyard.evaluation.string_checks import passes_string_check

CALL = {"id": "c", "type": "function", "function": {"name": "order", "arguments": '{"part": "seal", "n": 2}'}}


def completion(content: str | None, reason: str = "stop", **choice: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": reason} | choice]}


def test_a_sample_has_text_calls_choices_and_json() -> None:
    answer = completion(None, "tool_calls")
    answer["choices"][0]["message"]["tool_calls"] = [CALL]
    sample = Sample.from_completion(answer)
    assert sample.variables() == {"output_text": "", "output_tools": [CALL], "choices": answer["choices"]}
    assert Sample.from_completion(completion('{"a": 1}')).variables()["output_json"] == {"a": 1}
    assert "output_json" not in Sample("[" * 100_000).variables()


@pytest.mark.parametrize(
    ("answer", "is_well_formed"),
    [
        (completion("x"), True),
        (completion("x", "tool_calls"), True),
        (completion("x", "length"), False),
        (completion("x", harmony_malformed=True), False),
    ],
)
def test_an_answer_is_well_formed_if_the_model_ended_it(answer: dict[str, Any], is_well_formed: bool) -> None:
    assert Sample.from_completion(answer).is_well_formed is is_well_formed


def test_calls_are_lines_with_sorted_arguments() -> None:
    assert text_with_calls("Done.", [CALL]) == 'Done.\norder({"n": 2, "part": "seal"})'
    assert text_with_calls(None, [{"function": {"name": "f", "arguments": "no json"}}]) == "f(no json)"


@given(st.text(), st.text())
def test_string_checks_are_equality_and_containment(text: str, reference: str) -> None:
    assert passes_string_check("eq", text, reference) is (text == reference)
    assert passes_string_check("ne", text, reference) is not passes_string_check("eq", text, reference)
    assert passes_string_check("like", text + reference + text, reference)
    assert passes_string_check("ilike", text + reference.upper() + text, reference.upper())
    if passes_string_check("like", text, reference):
        assert passes_string_check("ilike", text, reference)
