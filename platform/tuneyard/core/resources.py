"""Whether a cluster's nodes can ever hold the work: Ray itself keeps what they cannot hold pending, without a word."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GIB = 2**30
ACCELERATOR = "accelerator_type:"
"""Prefix of the resource that a node has one of, when its GPUs are of that type."""

Resources = Mapping[str, float]
"""Amounts by Ray's resource names; `memory` in bytes."""


@dataclass(frozen=True, slots=True)
class Need:
    """`count` processes, each of which takes `each` of one node."""

    count: int
    each: Resources


def what_lacks(needs: Sequence[Need], nodes: Sequence[Resources]) -> str:
    """What the nodes lack to hold all needs at once, each with both numbers; empty when they lack nothing.

    Exact for needs of one kind; of several it may miss that they do not fit side by side, and never refuses what fits.
    """
    lacks = _lacking_in_all(needs, nodes)
    lacks += [text for need in needs if not lacks and (text := _lacking_per_node(need, nodes))]
    return "; ".join(lacks)


def _lacking_in_all(needs: Sequence[Need], nodes: Sequence[Resources]) -> list[str]:
    lacks = []
    for name in dict.fromkeys(name for need in needs for name in need.each):
        needed = sum(need.count * need.each.get(name, 0.0) for need in needs)
        there = sum(node.get(name, 0.0) for node in nodes)
        if there < needed * (1 - 1e-9):
            lacks.append(f"{name}: {_amount(name, needed)} needed, {_amount(name, there)} there")
    return lacks


def _lacking_per_node(need: Need, nodes: Sequence[Resources]) -> str:
    each = {name: amount for name, amount in need.each.items() if amount > 0}
    fitting = sum(_how_many(each, node) for node in nodes)
    if not each or fitting >= need.count:
        return ""
    wanted = ", ".join(f"{name} {_amount(name, amount)}" for name, amount in each.items())
    largest = ", ".join(f"{name} {_amount(name, max(n.get(name, 0) for n in nodes))}" for name in each)
    return (
        f"{need.count} × ({wanted}), each on one node: {fitting} fit{'s' if fitting == 1 else ''}; "
        f"the most that a node has: {largest}"
    )


def _how_many(each: Resources, node: Resources) -> int:
    return min(math.floor(node.get(name, 0) / amount + 1e-9) for name, amount in each.items())


def _amount(name: str, value: float) -> str:
    if name == "memory":
        return f"{value / GIB:.1f} GiB"
    if name.startswith(ACCELERATOR):
        return "yes" if value > 0 else "none"
    return f"{value:g}"
