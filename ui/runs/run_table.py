"""The runs as a table. A run's name is a button, which shows the run below: `data-run` is its id, for run_view.js."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tuneyard.api.wire.platform_api.runs import Run, RunStatus
from ui.runs.wording import ago, duration, number
from ui.theme.frame import MARK

FIRST_ROWS = 20
"""Rows of the table at first: the chosen run stands below it."""
ALL_ROWS = "all"

STATUS_TEXTS: dict[RunStatus, str] = {
    "queued": "Queued",
    "running": "Running",
    "silent": "Silent",
    "succeeded": "Done",
    "failed": "Failed",
    "stopped": "Stopped",
}
HEADINGS = (
    ("Run", ""), ("State", ""), ("Progress", ""), ("Time left", "run-wide"), ("Loss", "run-number"),
    ("Held-out", "run-number run-wide"), ("Started", "run-wide"),
)  # fmt: skip


def table_html(runs: Sequence[Run], chosen: str, now: float, *, is_whole: bool) -> str:
    """The runs, the newest first; without `is_whole` the first FIRST_ROWS and the chosen one, which is marked."""
    if not runs:
        return ""
    shown = [run for i, run in enumerate(runs) if is_whole or i < FIRST_ROWS or run.id == chosen]
    head = "".join(f'<th scope="col" class="{kind}">{text}</th>' for text, kind in HEADINGS)
    rows = "".join(_row_html(run, run.id == chosen, now) for run in shown)
    return (
        '<table class="run-table"><caption class="ty-hidden">Runs</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{_rows_button(len(runs), is_whole)}"
    )


def _rows_button(count: int, is_whole: bool) -> str:
    """Shows all rows, or the first ones again; `data-rows` is for run_view.js."""
    if count <= FIRST_ROWS:
        return ""
    rows, text = ("", f"Show the newest {FIRST_ROWS}") if is_whole else (ALL_ROWS, f"Show all {count} runs")
    return f'<button type="button" class="ty-quiet run-more" data-rows="{rows}">{text}</button>'


def empty_html(*, is_admin: bool) -> str:
    """What the page shows where there is no run."""
    what = "No run yet" if is_admin else "No fine-tuning job yet"
    commands = ["tuneyard jobs create chats.jsonl --model NAME --api URL"]
    if is_admin:
        commands.insert(0, "tuneyard jobs submit jobs/configs/demo_cpu.yaml")
    shown = "".join(f"<li><code>{command}</code></li>" for command in commands)
    return (
        f'<div class="run-empty">{MARK}<h2>{what}</h2>'
        "<p>A run turns your chats into a model. Begin one in a terminal; its loss, its speed and the tokens that it "
        f"trains on appear here while it works.</p><ul>{shown}</ul></div>"
    )


def badge_html(status: RunStatus) -> str:
    """A run's state."""
    return f'<span class="run-badge run-{status}">{STATUS_TEXTS[status]}</span>'


def progress_html(run: Run) -> str:
    """A bar with the step under it; a dash before the first step."""
    if run.progress is None:
        return "–" if run.step is None else f"Step {run.step:,}"
    steps = f"{run.step:,} / {run.total_steps:,}" if run.step is not None and run.total_steps else f"{run.progress:.0%}"
    return (
        f'<progress class="run-progress" max="1" value="{run.progress:.3f}" aria-label="Progress of '
        f'{escape(run.name)}"></progress><small>{steps}</small>'
    )


def time_left(run: Run, now: float) -> str:
    """The time to the end of the training at its pace."""
    return duration(run.estimated_finish - now) if run.estimated_finish is not None else "–"


def _row_html(run: Run, is_chosen: bool, now: float) -> str:
    model = f"<small>{escape(run.model)}</small>" if run.model and run.model != run.name else ""
    loss, heldout = (number(run.metrics[name]) if name in run.metrics else "–" for name in ("loss", "eval_loss"))
    cells = (
        badge_html(run.status),
        progress_html(run),
        time_left(run, now),
        loss,
        heldout,
        ago(run.started_at, now),
    )
    rest = "".join(f'<td class="{kind}">{cell}</td>' for cell, (_, kind) in zip(cells, HEADINGS[1:], strict=True))
    return (
        f'<tr{" class=run-chosen" if is_chosen else ""}><th scope="row"><button type="button" class="run-name" '
        f'data-run="{escape(run.id)}" aria-pressed="{"true" if is_chosen else "false"}">'
        f"{escape(run.name)}</button>{model}</th>{rest}</tr>"
    )
