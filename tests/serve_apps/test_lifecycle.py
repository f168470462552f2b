"""A deployment that cannot start says why, whatever happens while its parts are taken down."""

from __future__ import annotations

import pytest

from serve_apps.lifecycle import Deployment
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.errors import ClusterError, ConfigError


class FailingDeployment(Deployment):
    """Starts nothing but what its end must undo, and fails; undoing fails too."""

    def __init__(self, reports: list[str], undoing: Exception | None) -> None:
        config = ServeConfig.model_validate({"models": [{"model_id": "m", "checkpoint": "nowhere"}]})
        super().__init__(config, report=reports.append)
        self.undone: list[str] = []
        self._undoing = undoing

    def _start(self) -> None:
        self._stack.callback(self.undone.append, "Ray")
        self._stack.callback(self._undo)
        raise ConfigError("no replica started: out of memory")

    def _undo(self) -> None:
        self.undone.append("applications")
        if self._undoing is not None:
            raise self._undoing


@pytest.mark.parametrize("undoing", [None, ClusterError("not removed after 90 s")])
def test_a_failed_removal_does_not_hide_why_the_start_failed(undoing: ClusterError | None) -> None:
    reports: list[str] = []
    deployment = FailingDeployment(reports, undoing)
    with pytest.raises(ConfigError, match="no replica started: out of memory"), deployment:
        pass
    assert deployment.undone == ["applications", "Ray"]
    assert reports == ([f"warning: {undoing}"] if undoing else [])
