"""Formula: the arithmetic that combines the scores of several graders, such as `0.5 * name + 0.5 * min(email, phone)`.

Source: OpenAI, guide "Graders", section "Combined graders": the operators + - * / ^ and the functions below.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

from tuneyard.core.errors import EvaluationError

MAX_CHARACTERS = 2000
MAX_DEPTH = 50
"""Parentheses, function calls, signs and powers inside each other."""

Expression = Callable[[Mapping[str, float]], float]
Operator = Callable[[float, float], float]

_FUNCTIONS: dict[str, Callable[..., float]] = {
    "abs": abs,
    "ceil": math.ceil,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "max": max,
    "min": min,
    "sqrt": math.sqrt,
}
_ANY_NUMBER = ("max", "min")

_TOKEN = re.compile(r"\s*(?:(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)|([^\W\d]\w*)|([-+*/^(),]))")


class Formula:
    """A formula over variables. `names` are the variables that it may use.

    Raises ValueError, as a phrase, if the text is no formula.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        if len(text) > MAX_CHARACTERS:
            raise ValueError(f"must have at most {MAX_CHARACTERS} characters, found {len(text)}")
        self._text = text
        self._names = names
        self._tokens = self._split()
        self._position = 0
        self._depth = 0
        self._evaluate = self._sum()
        if self._token:
            self._fail(f"{self._token!r} is not expected there")

    def evaluate(self, values: Mapping[str, float]) -> float:
        """The formula's value. Raises EvaluationError if it has none, such as a division by 0."""
        try:
            value = float(self._evaluate(values))
        except (ArithmeticError, ValueError) as e:  # a division by 0, the logarithm of 0, a number too large
            raise EvaluationError(f"The formula {self._text!r} has no value for these scores: {e}.", "formula") from e
        if not math.isfinite(value):
            raise EvaluationError(f"The formula {self._text!r} has no finite value for these scores.", "formula")
        return value

    @property
    def _token(self) -> str:
        """The token at the position, "" at the end."""
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def _split(self) -> list[str]:
        tokens, position, text = [], 0, self._text.rstrip()
        while position < len(text):
            found = _TOKEN.match(text, position)
            if found is None:
                self._fail(f"{text[position:].lstrip()[:1]!r} is not known")
            tokens.append(found.group(found.lastindex or 0))
            position = found.end()
        return tokens

    def _take(self, *expected: str) -> str:
        """Takes the token if it is one of `expected`; "" if it is not."""
        token = self._token
        if token not in expected:
            return ""
        self._position += 1
        return token

    def _sum(self) -> Expression:
        return self._chain(self._product, {"+": operator.add, "-": operator.sub})

    def _product(self) -> Expression:
        return self._chain(self._signed, {"*": operator.mul, "/": operator.truediv})

    def _chain(self, operand: Callable[[], Expression], operators: Mapping[str, Operator]) -> Expression:
        """Operands between operators of one rank, evaluated from the left, however many they are."""
        first = operand()
        rest: list[tuple[Operator, Expression]] = []
        while symbol := self._take(*operators):
            rest.append((operators[symbol], operand()))
        if not rest:
            return first

        def evaluate(values: Mapping[str, float]) -> float:
            value = first(values)
            for apply, right in rest:
                value = apply(value, right(values))
            return value

        return evaluate

    def _signed(self) -> Expression:
        """A power, after any number of signs: -2^2 is -4, as in mathematics."""
        if not (sign := self._take("+", "-")):
            return self._power()
        value = self._nested(self._signed)
        return value if sign == "+" else lambda values: -value(values)

    def _power(self) -> Expression:
        base = self._operand()
        if not self._take("^"):
            return base
        exponent = self._nested(self._signed)  # from the right: 2^3^2 is 2^9
        return lambda values: math.pow(base(values), exponent(values))

    def _operand(self) -> Expression:
        token = self._token
        if not token:
            self._fail("an operand is missing at its end")
        self._position += 1
        if token == "(":
            value = self._nested(self._sum)
            self._close()
            return value
        if token[0].isdigit() or token[0] == ".":
            number = float(token)
            return lambda _: number
        if token in _FUNCTIONS and self._take("("):
            return self._call(token)
        if token in self._names:
            return lambda values: values[token]
        known = ", ".join(sorted(self._names))
        self._fail(f"{token!r} is neither a grader ({known}) nor a function ({', '.join(_FUNCTIONS)})")

    def _call(self, name: str) -> Expression:
        operands = [self._nested(self._sum)]
        while self._take(","):
            operands.append(self._nested(self._sum))
        self._close()
        if len(operands) > 1 and name not in _ANY_NUMBER:
            self._fail(f"{name} takes one operand, found {len(operands)}")
        function = _FUNCTIONS[name]
        if len(operands) == 1 and name in _ANY_NUMBER:
            return operands[0]
        return lambda values: function(*(operand(values) for operand in operands))

    def _nested(self, parse: Callable[[], Expression]) -> Expression:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(f"it is nested deeper than {MAX_DEPTH} levels")
        value = parse()
        self._depth -= 1
        return value

    def _close(self) -> None:
        if not self._take(")"):
            self._fail("a ) is missing")

    def _fail(self, reason: str) -> NoReturn:
        raise ValueError(f"must be a formula: {reason}")
