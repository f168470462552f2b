"""The queries of a Grafana dashboard, answered by Prometheus' HTTP API as Grafana would ask it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

TIMEOUT_S = 30.0
LABEL_VALUES = re.compile(r"label_values\((?P<metric>\w+), (?P<label>\w+)\)")


@dataclass(frozen=True)
class TimeRange:
    """Unix times in seconds, and the seconds between two values."""

    start: float
    end: float
    step: float


@dataclass(frozen=True)
class Series:
    """One line of a panel: its legend, and (Unix time, value) without the times that have no value."""

    legend: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """A panel, and the answers to its queries: for each of them the series, none where Prometheus has no data."""

    title: str
    unit: str
    fill_opacity: float
    """0 to 1."""
    answers: dict[str, list[Series]]
    """By query, in the dashboard's order."""

    @property
    def series(self) -> list[Series]:
        return [series for answer in self.answers.values() for series in answer]


def read_panels(dashboard: Path, prometheus: str, time_range: TimeRange) -> list[Panel]:
    """All panels, top to bottom, with every variable at "All".

    `prometheus` is the server's URL. Raises OSError if it does not answer, or refuses a query.
    """
    content = json.loads(dashboard.read_text(encoding="utf-8"))
    variables = {
        variable["name"]: _all_values(prometheus, variable["query"]["query"], time_range)
        for variable in content["templating"]["list"]
        if variable["type"] == "query"
    }
    panels = sorted(content["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"]))
    return [_read_panel(panel, prometheus, variables, time_range) for panel in panels]


def _read_panel(panel: Mapping[str, Any], prometheus: str, variables: Mapping[str, str], time: TimeRange) -> Panel:
    answers = {}
    for target in panel["targets"]:
        query = re.sub(r"\$(\w+)", lambda match: variables[match[1]], target["expr"])
        answers[target["expr"]] = _query_range(prometheus, query, target["legendFormat"], time)
    defaults = panel["fieldConfig"]["defaults"]
    return Panel(panel["title"], defaults["unit"], defaults["custom"]["fillOpacity"] / 100, answers)


def _all_values(prometheus: str, query: str, time: TimeRange) -> str:
    """The regular expression that stands for "All" of a variable `label_values(metric, label)`."""
    match = LABEL_VALUES.fullmatch(query)
    if match is None:
        raise ValueError(f"the dashboard's variable {query!r} is not of the form label_values(metric, label)")
    parameters = {"match[]": match["metric"], "start": time.start, "end": time.end}
    values = _get(prometheus, f"label/{match['label']}/values", parameters)
    return f"({'|'.join(values)})"


def _query_range(prometheus: str, query: str, legend: str, time: TimeRange) -> list[Series]:
    parameters = {"query": query, "start": time.start, "end": time.end, "step": time.step}
    return [
        Series(
            _fill_in(legend, result["metric"]),
            [(float(when), float(value)) for when, value in result["values"] if math.isfinite(float(value))],
        )
        for result in _get(prometheus, "query_range", parameters)["result"]
    ]


def _fill_in(legend: str, labels: Mapping[str, str]) -> str:
    text = re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match[1], ""), legend)
    return " ".join(text.split())


def _get(prometheus: str, path: str, parameters: Mapping[str, object]) -> Any:
    with urlopen(f"{prometheus}/api/v1/{path}?{urlencode(parameters)}", timeout=TIMEOUT_S) as response:
        return json.load(response)["data"]
