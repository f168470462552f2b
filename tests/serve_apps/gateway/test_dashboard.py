"""The dashboard adds up right when Prometheus scrapes several pods, each of which shows the metrics of all replicas."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DASHBOARD = json.loads(Path("platform/dashboards/serving.json").read_text(encoding="utf-8"))
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
SUM = re.compile(r"sum by \((?P<outer>[\w, ]+)\) \(max by \((?P<inner>[\w, ]+)\) \(")


@pytest.mark.parametrize("query", QUERIES)
def test_a_sum_takes_one_value_of_each_replica(query: str) -> None:
    assert query.count("(") == query.count(")")
    for start in re.finditer(r"\bsum\b", query):
        match = SUM.match(query, start.start())
        assert match is not None, "a series exists once per scraped pod: take max by (…, replica) before the sum"
        assert set(match["inner"].split(", ")) == {*match["outer"].split(", "), "replica"}
    if "sum" not in query:
        assert query.startswith("max by ")
