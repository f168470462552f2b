"""RecordedRun: a TrackedRun that writes down what it gets, and fails where a test says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RecordedRun:
    """See TrackedRun. `fails_in` is the method that raises."""

    fails_in: str | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return "https://wandb.example/p/runs/r"

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._record("log", step, dict(metrics))

    def finish(self, summary: Mapping[str, str | float], *, succeeded: bool) -> None:
        self._record("finish", dict(summary), succeeded)

    def _record(self, name: str, *values: Any) -> None:
        if name == self.fails_in:
            raise ConnectionError("the server\nis lost")
        self.calls.append((name, *values))
