"""Hypothesis strategies for JSON bodies of every size and depth: long texts, long lists, deep nests, wrong types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# Values of every size and depth: a repeated character, a list of one item many times, a deep nest.
sizes = st.integers(0, 300) | st.sampled_from([1_000, 20_000, 200_000])
texts = st.builds(
    lambda part, count: (part * count)[:400_000],
    st.sampled_from(["a", "a1", " ", ".", "é", "\u0301", '"', "a b "]),
    sizes,
)
leaves = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | texts
)


def nest(value: Any, depth: int, kind: str) -> Any:
    for _ in range(depth):
        value = [value] if kind == "list" else {"properties": value}
    return value


FIELDS = st.sampled_from(
    ["type", "role", "content", "function", "name", "parameters", "text", "enum", "multipleOf", "items"]
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(FIELDS, inner, max_size=4)
    | st.builds(lambda item, count: [item] * count, st.booleans() | st.just({}) | st.integers(0, 9), sizes)
    | st.builds(nest, inner, st.sampled_from([1, 60, 130, 900]), st.sampled_from(["list", "dict"])),
    max_leaves=6,
)  # fmt: skip
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"])},
        optional={"content": texts | values, "tool_calls": values, "tool_call_id": values, "reasoning_content": values},
    ),
    min_size=1, max_size=4,
)  # fmt: skip
contents = st.fixed_dictionaries(
    {"model": st.just("tiny")},
    optional={
        "messages": messages | values, "prompt": texts | values, "tokens": values, "tools": values, "stop": values,
        "input": texts | values, "n": st.integers(-1, 10**6), "max_tokens": st.integers(-1, 10**12),
        "stream": st.booleans() | values, "logit_bias": values, "response_format": values, "tool_choice": values,
        "temperature": values, "metadata": values, "text": values, "echo": st.booleans() | values,
        "logprobs": values, "instructions": texts,
    },
)  # fmt: skip


@dataclass(frozen=True)
class Body:
    """An encoded body, which hypothesis shows by its beginning: it cannot print a value that is nested deeply."""

    data: bytes

    def __repr__(self) -> str:
        return f"Body({len(self.data)} bytes: {self.data[:500]!r})"


def encode(content: Any) -> Body:
    """The encoded content; what is nested too deeply for Python's own encoder becomes an array of arrays."""
    try:
        return Body(json.dumps(content).encode())
    except RecursionError:
        return Body(b"[" * 5000 + b"]" * 5000)


bodies = contents.map(encode)
