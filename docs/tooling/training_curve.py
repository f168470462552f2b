"""Draws a run's loss as an SVG for the guide, from the registry in which the run recorded it.

TUNEYARD_HOME=.tuneyard python -m docs.tooling.training_curve brindle-support brindle-demo docs/images/demo_curve.svg
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

Point = tuple[int, float]
"""Step and loss in nats per labelled token."""

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 48, 624, 40, 256
STYLE = """\
text { font: 14px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #6b7a89 }
.axis { stroke: #8a99a8; stroke-width: 1 }
.grid { stroke: #8a99a8; stroke-width: 1; opacity: .25 }
.loss { fill: none; stroke: #0f9488; stroke-width: 2 }
.heldout { fill: #d97706 }"""
"""Colours that read on a light and on a dark page."""


def read_losses(model_name: str, run_name: str) -> tuple[list[Point], list[Point]]:
    """Training and held-out losses of the newest finished run of this name. Raises LookupError without one."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    import mlflow

    from tuneyard.checkpoints.registry import ModelRegistry

    client = mlflow.MlflowClient(tracking_uri=ModelRegistry().uri)
    experiment = client.get_experiment_by_name(model_name)
    runs = client.search_runs([experiment.experiment_id]) if experiment is not None else []
    found = [run for run in runs if run.info.run_name == run_name and run.info.status == "FINISHED"]
    if not found:
        raise LookupError(f"the registry has no finished run {run_name!r} of {model_name!r}")
    run_id = max(found, key=lambda run: run.info.start_time).info.run_id
    losses, heldout = (
        sorted((metric.step, metric.value) for metric in client.get_metric_history(run_id, name))
        for name in ("loss", "eval_loss")
    )
    return losses, heldout


def render_curve(losses: Sequence[Point], heldout: Sequence[Point]) -> str:
    """The SVG: training loss as a line, held-out loss as points. Needs at least two steps."""
    last = max(step for step, _ in [*losses, *heldout])
    top = max(loss for _, loss in [*losses, *heldout]) * 1.05

    def place(point: Point) -> tuple[float, float]:
        step, loss = point
        return LEFT + (RIGHT - LEFT) * step / last, BOTTOM - (BOTTOM - TOP) * loss / top

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "<title>Loss by step</title>",
        f"<style>{STYLE}</style>",
    ]
    for tick in range(1, int(top) + 1):
        _, y = place((0, float(tick)))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{tick}</text>')
    for share in (0.25, 0.5, 0.75, 1.0):
        x, _ = place((round(last * share), 0.0))
        parts.append(f'<text x="{x:.1f}" y="{BOTTOM + 22}" text-anchor="middle">{round(last * share)}</text>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, losses))
    parts += [f'<path class="axis" d="M{LEFT} {BOTTOM}H{RIGHT}"/>', f'<polyline class="loss" points="{line}"/>']
    parts += [f'<circle class="heldout" cx="{x:.1f}" cy="{y:.1f}" r="5"/>' for x, y in map(place, heldout)]
    parts += [
        f'<text x="{LEFT}" y="20">loss, nats per labelled token: line training, points held-out</text>',
        f'<text x="{RIGHT}" y="{HEIGHT - 4}" text-anchor="end">step</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code: 1 when there is no such run."""
    parser = argparse.ArgumentParser(prog="python -m docs.tooling.training_curve", description="Draw a run's loss.")
    parser.add_argument("model", help="the run's model_name")
    parser.add_argument("run", help="the run's name")
    parser.add_argument("output", type=Path, metavar="SVG", help="where to write the picture")
    arguments = parser.parse_args(argv)
    try:
        losses, heldout = read_losses(arguments.model, arguments.run)
    except LookupError as e:
        print(f"error: {e}", file=sys.stderr)
        return 1
    arguments.output.write_text(render_curve(losses, heldout), encoding="utf-8")
    print(f"wrote {arguments.output}: {len(losses)} steps, {len(heldout)} evaluations")
    return 0


if __name__ == "__main__":
    sys.exit(main())
