"""Findings: the results of checks, and the text that shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "ok"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "ok")
LINE_WIDTH = 116


@dataclass(frozen=True)
class Finding:
    """The result of one check at one place."""

    severity: Severity
    what: str
    where: str
    fix: str = ""
    """What to do; empty when the severity is ok."""


def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Returns one finding for all places with the same result, errors first and ok last."""
    places: dict[tuple[Severity, str, str], list[str]] = {}
    for finding in findings:
        places.setdefault((finding.severity, finding.what, finding.fix), []).append(finding.where)
    merged = [Finding(severity, what, ", ".join(where), fix) for (severity, what, fix), where in places.items()]
    return sorted(merged, key=lambda finding: SEVERITIES.index(finding.severity))


def findings_table(findings: Sequence[Finding]) -> str:
    """Returns the findings as text: severity and result in columns, with place and fix below, and the totals last."""
    lines = []
    for finding in findings:
        if finding.severity == "ok":
            lines.append(f"ok       {finding.what} ({finding.where})")
            continue
        rows = (f"{finding.severity:<9}", finding.what), ("  where  ", finding.where), ("  fix    ", finding.fix)
        for label, text in rows:
            lines += textwrap.wrap(
                text, LINE_WIDTH, initial_indent=label, subsequent_indent=" " * 9, break_on_hyphens=False
            )
    errors, warnings, ok = (sum(f.severity == severity for f in findings) for severity in SEVERITIES)
    return "\n".join([*lines, f"errors: {errors}, warnings: {warnings}, ok: {ok}"])
