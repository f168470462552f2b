"""Work that the nodes can never hold is named; work that they can hold is never refused."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.resources import GIB, Need, what_lacks

NODE = st.fixed_dictionaries({"CPU": st.integers(0, 4).map(float), "GPU": st.integers(0, 2).map(float)})
EACH = st.fixed_dictionaries({"CPU": st.sampled_from([0.5, 1.0, 2.0]), "GPU": st.sampled_from([0.0, 1.0])})


def can_hold(bundles: list[dict[str, float]], nodes: list[dict[str, float]]) -> bool:
    """By trying every assignment."""
    for assignment in itertools.product(range(len(nodes)), repeat=len(bundles)):
        left = [dict(node) for node in nodes]
        for bundle, place in zip(bundles, assignment, strict=True):
            for name, amount in bundle.items():
                left[place][name] -= amount
        if all(amount >= 0 for node in left for amount in node.values()):
            return True
    return not bundles


@given(st.integers(1, 4), EACH, st.lists(NODE, min_size=1, max_size=3))
def test_one_kind_is_answered_exactly(count: int, each: dict[str, float], nodes: list[dict[str, float]]) -> None:
    assert (what_lacks([Need(count, each)], nodes) == "") == can_hold([each] * count, nodes)


@given(st.lists(EACH, max_size=4), st.lists(NODE, min_size=1, max_size=3))
def test_what_fits_is_never_refused(kinds: list[dict[str, float]], nodes: list[dict[str, float]]) -> None:
    if can_hold(kinds, nodes):
        assert what_lacks([Need(1, each) for each in kinds], nodes) == ""


def test_it_says_what_is_missing_with_both_numbers() -> None:
    nodes = [{"CPU": 4.0, "GPU": 2.0, "memory": 8.0 * GIB, "accelerator_type:A100": 1.0}] * 2
    assert what_lacks([Need(8, {"GPU": 1})], nodes) == "GPU: 8 needed, 4 there"
    assert what_lacks([Need(1, {"GPU": 4, "CPU": 1})], nodes) == (
        "1 × (GPU 4, CPU 1), each on one node: 0 fit; the most that a node has: GPU 2, CPU 4"
    )
    assert what_lacks([Need(4, {"memory": 6.0 * GIB})], nodes) == "memory: 24.0 GiB needed, 16.0 GiB there"
    assert "accelerator_type:H100: yes needed, none there" in what_lacks(
        [Need(2, {"GPU": 1, "accelerator_type:H100": 0.001})], nodes
    )
    assert what_lacks([Need(2, {"GPU": 2, "accelerator_type:A100": 0.001})], nodes) == ""
