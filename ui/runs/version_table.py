"""Registered versions as a table: what they were made from, how they measured, and where they are served."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from tuneyard.api.wire.platform_api.runs import Version
from ui.runs.wording import ago, number

HEADINGS = ("Version", "Made by run", "Base", "Data", "Held-out loss", "Served as", "Made")


def versions_html(versions: Sequence[Version], known_runs: frozenset[str], now: float) -> str:
    """The newest first. `known_runs` are the ids of runs that the page can show."""
    if not versions:
        return '<p class="run-note">No version is registered yet: a run registers one at its end.</p>'
    head = "".join(f'<th scope="col">{text}</th>' for text in HEADINGS)
    rows = "".join(_row_html(version, known_runs, now) for version in versions)
    return (
        '<table class="run-table run-versions"><caption class="ty-hidden">Versions</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row_html(version: Version, known_runs: frozenset[str], now: float) -> str:
    marks = "".join(f'<span class="run-alias">@{escape(alias)}</span>' for alias in version.aliases)
    kind = '<span class="run-alias">adapter</span>' if version.kind == "adapter" else ""
    cells = [
        _run_html(version, known_runs),
        escape(version.lineage.base or "–"),
        _digest_html(version.lineage.dataset_fingerprint),
        number(version.metrics["eval_loss"]) if "eval_loss" in version.metrics else "–",
        _served_html(version),
        ago(version.created_at, now),
    ]
    rest = "".join(f'<td data-label="{label}">{cell}</td>' for label, cell in zip(HEADINGS[1:], cells, strict=True))
    name = f'<span title="{escape(version.checkpoint)}">{escape(version.id)}</span>'
    return f'<tr><th scope="row">{name} {marks}{kind}</th>{rest}</tr>'


def _run_html(version: Version, known_runs: frozenset[str]) -> str:
    run, name = version.lineage.run, version.lineage.run_name
    if run is not None and run in known_runs:
        return f'<button type="button" class="run-name" data-run="{escape(run)}">{escape(name or run[:12])}</button>'
    return escape(name or "–")


def _digest_html(digest: str | None) -> str:
    return f'<code title="{escape(digest)}">{escape(digest[:12])}</code>' if digest else "–"


def _served_html(version: Version) -> str:
    if not version.served_by:
        return "–"
    names = [
        escape(by.model)
        + (f" <small>by {escape(by.reference)}</small>" if by.reference and "@" in by.reference else "")
        for by in version.served_by
    ]
    return "<br>".join(names)
