"""Resource shortages: a request that no node can hold is described; a request that fits is never refused."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.resources import GIB, ResourceRequest, describe_shortages

NODE = st.fixed_dictionaries({"CPU": st.integers(0, 4).map(float), "GPU": st.integers(0, 2).map(float)})
PER_PROCESS = st.fixed_dictionaries({"CPU": st.sampled_from([0.5, 1.0, 2.0]), "GPU": st.sampled_from([0.0, 1.0])})


def can_hold(bundles: list[dict[str, float]], nodes: list[dict[str, float]]) -> bool:
    """The exact answer, by trying every assignment of bundles to nodes."""
    for assignment in itertools.product(range(len(nodes)), repeat=len(bundles)):
        free = [dict(node) for node in nodes]
        for bundle, node in zip(bundles, assignment, strict=True):
            for name, amount in bundle.items():
                free[node][name] -= amount
        if all(amount >= 0 for node in free for amount in node.values()):
            return True
    return not bundles


@given(st.integers(1, 4), PER_PROCESS, st.lists(NODE, min_size=1, max_size=3))
def test_is_exact_for_one_request(count: int, per_process: dict[str, float], nodes: list[dict[str, float]]) -> None:
    shortages = describe_shortages([ResourceRequest(count, per_process)], nodes)
    assert (shortages == "") == can_hold([per_process] * count, nodes)


@given(st.lists(PER_PROCESS, max_size=4), st.lists(NODE, min_size=1, max_size=3))
def test_never_refuses_requests_that_fit(bundles: list[dict[str, float]], nodes: list[dict[str, float]]) -> None:
    if can_hold(bundles, nodes):
        assert describe_shortages([ResourceRequest(1, bundle) for bundle in bundles], nodes) == ""


def test_names_the_needed_and_the_available_amounts() -> None:
    nodes = [{"CPU": 4.0, "GPU": 2.0, "memory": 8.0 * GIB, "accelerator_type:A100": 1.0}] * 2
    assert describe_shortages([ResourceRequest(8, {"GPU": 1})], nodes) == "GPU: 8 needed, 4 available"
    assert describe_shortages([ResourceRequest(1, {"GPU": 4, "CPU": 1})], nodes) == (
        "1 × (GPU 4, CPU 1), each on one node: 0 fit; the largest amounts on any node: GPU 2, CPU 4"
    )
    assert (
        describe_shortages([ResourceRequest(4, {"memory": 6.0 * GIB})], nodes)
        == "memory: 24.0 GiB needed, 16.0 GiB available"
    )
    assert "accelerator_type:H100: yes needed, none available" in describe_shortages(
        [ResourceRequest(2, {"GPU": 1, "accelerator_type:H100": 0.001})], nodes
    )
    assert describe_shortages([ResourceRequest(2, {"GPU": 2, "accelerator_type:A100": 0.001})], nodes) == ""
