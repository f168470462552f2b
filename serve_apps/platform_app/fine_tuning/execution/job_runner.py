"""JobRunner: what executes the runs of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from serve_apps.platform_app.fine_tuning.records.states import RunState


@dataclass(frozen=True, slots=True)
class RunReport:
    """Where a run is, and why it ended, for the client; "" if there is nothing to say."""

    state: RunState
    message: str = ""


class JobRunner(Protocol):
    """Executes runs by id. A run that ended without a result can be begun again under another id: it then goes on from
    its last checkpoint.

    All methods raise ClusterError if the cluster does not answer; it is then not known whether the call took effect.
    """

    async def submit(self, run_id: str, config: str) -> None:
        """Begins a run with the JSON of a FinetuneConfig. Does nothing if a run of that id was begun before.

        Runs to its end also if it is cancelled, so that no submission arrives after its caller has gone on. Raises
        ConfigError if this process cannot submit runs at all.
        """

    async def find(self, run_id: str) -> RunReport:
        """Where the run is."""

    async def stop(self, run_id: str) -> None:
        """Asks a run to end; `find` says when it has. Does nothing for a run that has ended or is not known."""

    async def running(self) -> Mapping[str, RunState]:
        """All runs that have not ended, by id; those of other deployments may be among them."""
