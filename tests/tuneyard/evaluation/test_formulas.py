"""Formulas: the value that arithmetic has, and nothing that is not arithmetic."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import EvaluationError
from tuneyard.evaluation.formulas import MAX_CHARACTERS, Formula

NAMES = {"a": 0.25, "b": 2.0, "max": 3.0}

NUMBERS = st.integers(0, 99).map(str) | st.floats(0, 99, allow_subnormal=False).map(lambda x: f"{x:.3f}")
EXPRESSIONS = st.recursive(
    NUMBERS | st.sampled_from(["a", "b"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"-{x}"),
        inner.map(lambda x: f"abs({x})"),
        st.tuples(inner, inner).map(lambda t: f"min({t[0]}, {t[1]})"),
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5 * a + 0.5*b", 1.125),
        ("2 + 3 * 4 - 6 / 2", 11),
        ("(2 + 3) * 4", 20),
        ("2 ^ 3 ^ 2", 512),
        ("-2 ^ 2", -4),
        ("2 ^ -1", 0.5),
        ("--a", 0.25),
        ("10 - 3 - 2", 5),
        ("100 / 10 / 2", 5),
        ("max(a, b, 1) + min(a)", 2.25),
        ("max", 3),
        ("floor(1.7) + ceil(1.2) + sqrt(9) + abs(-1) + exp(0) + log(1)", 8),
        ("1e2 + .5 + 2.", 102.5),
    ],
)
def test_a_formula_has_the_value_of_arithmetic(text: str, value: float) -> None:
    assert Formula(text, NAMES).evaluate(NAMES) == pytest.approx(value)


@given(EXPRESSIONS)
def test_formulas_agree_with_python(text: str) -> None:
    try:
        expected = float(eval(text, {"abs": abs, "min": min}, dict(NAMES)))
    except ZeroDivisionError:
        with pytest.raises(EvaluationError, match="has no value"):
            Formula(text, NAMES).evaluate(NAMES)
        return
    assert Formula(text, NAMES).evaluate(NAMES) == pytest.approx(expected, nan_ok=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "an operand is missing"),
        ("a +", "an operand is missing"),
        ("a b", "'b' is not expected"),
        ("(a", r"a \) is missing"),
        ("a)", r"'\)' is not expected"),
        ("c", r"'c' is neither a grader \(a, b, max\) nor a function"),
        ("sqrt(a, b)", "sqrt takes one operand, found 2"),
        ("__import__('os')", "'\\(' is not known|is neither a grader|\"'\" is not known"),
        ("a if b else 1", "is not expected"),
        ("a ** b", r"'\*' is neither|is neither a grader"),
        ("a.b", "is not known"),
        ("(" * 60 + "a" + ")" * 60, "nested deeper than 50"),
        ("1+" * MAX_CHARACTERS + "1", "must have at most 2000 characters"),
    ],
)
def test_what_is_no_formula_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Formula(text, NAMES)


@pytest.mark.parametrize(
    "text", ["1 / (a - a)", "log(0)", "sqrt(0 - 1)", "9 ^ 9 ^ 9", "(0-1) ^ 0.5", "1e999", "exp(9999)"]
)
def test_a_formula_without_a_finite_value_is_an_error(text: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        Formula(text, NAMES).evaluate(NAMES)
    assert caught.value.kind == "formula"


def test_long_sums_take_no_stack() -> None:
    assert Formula("+".join(["1"] * (MAX_CHARACTERS // 2)), ()).evaluate({}) == MAX_CHARACTERS // 2


@given(st.text(alphabet="ab1.+-*/^(), maxlogsqrt", max_size=40))
def test_any_text_has_a_finite_value_or_an_error_of_its_own(text: str) -> None:
    with contextlib.suppress(ValueError, EvaluationError):
        assert math.isfinite(Formula(text, NAMES).evaluate(NAMES))
