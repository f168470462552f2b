"""The lines of JSON between a run's driver and its tracking process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from tuneyard.configs.experiment_tracking import WandbConfig
from tuneyard.core.strict_model import FrozenModel


class _Line(FrozenModel):
    """A message; as one line of JSON, in which NaN and Infinity keep their values."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    def as_line(self) -> str:
        """The message as a line with its end."""
        return self.model_dump_json() + "\n"


class StartMessage(_Line):
    """The first line for the process: the run to open. `settings` are shown beside its metrics."""

    kind: Literal["start"] = "start"
    run_id: str
    name: str
    folder: str
    """Where the package keeps its copy of the run."""
    wandb: WandbConfig
    settings: dict[str, int | float | str]


class PointMessage(_Line):
    """The metrics of an optimizer step."""

    kind: Literal["point"] = "point"
    step: int
    metrics: dict[str, float]


class EndMessage(_Line):
    """The last line for the process. Without it the driver was killed, and the run counts as failed."""

    kind: Literal["end"] = "end"
    succeeded: bool
    summary: dict[str, str | float]


class Notice(_Line):
    """A line from the process. `run`: the run is open, at the URL `text`. `warning`: `text` says why metrics are
    lost."""

    kind: Literal["run", "warning"]
    text: str


Message = Annotated[StartMessage | PointMessage | EndMessage, Field(discriminator="kind")]

MESSAGES: TypeAdapter[StartMessage | PointMessage | EndMessage] = TypeAdapter(Message)
