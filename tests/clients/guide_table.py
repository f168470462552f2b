"""Writes the table of clients in docs/clients.md from results.json: python -m tests.clients.guide_table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.clients.client_list import ABILITIES
from tests.clients.results import FAILS, NOT_OFFERED, WORKS, read_rows
from tuneyard.core.atomic_files import write_atomically

PAGE = Path(__file__).resolve().parents[2] / "docs" / "clients.md"
BEGIN = "<!-- clients: begin; written by `make test-clients` -->"
END = "<!-- clients: end -->"
CELLS = {WORKS: "yes", FAILS: "**no**", NOT_OFFERED: "–"}


def render_table(rows: Sequence[dict[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| Client | Version | Route | Chat | Stream | Tool loop | Structured output |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        route = f"`{row['route']}`" + (", stored" if "storage" in row else "")
        cells = [row["client"], row["version"], route, *(CELLS[row[ability]] for ability in ABILITIES)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def replace_table(page: str, table: str) -> str:
    """The page with the table between the markers. Raises ValueError if a marker is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} lacks the line {BEGIN!r} or {END!r}.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Entry point."""
    page = PAGE.read_text(encoding="utf-8")
    write_atomically(PAGE, replace_table(page, render_table(read_rows())))
    print(f"{PAGE.name}: the table of clients is up to date.")


if __name__ == "__main__":
    main()
