"""The guide's table of clients is that of the last run of `make test-clients`, with the versions that it installs."""

from __future__ import annotations

import pytest

from tests.clients.client_list import CLIENTS, ROUTE_PATHS
from tests.clients.coding_agents import CODEX_CONFIG, OPENCODE_CONFIG
from tests.clients.guide_table import PAGE, render_table, replace_table
from tests.clients.results import NOT_OFFERED, WORKS, read_rows


def test_the_page_has_the_table_of_the_results() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replace_table(page, render_table(read_rows())) == page, "run: python -m tests.clients.guide_table"


def test_the_results_are_of_the_pinned_clients() -> None:
    expected = [(c.name, ROUTE_PATHS[route], c.pinned_version) for c in CLIENTS for route in c.routes]
    found = [(row["client"], row["route"], row["version"]) for row in read_rows()]
    assert found == expected, "the list of clients or a pinned version changed: run make test-clients"


def test_every_client_works() -> None:
    cells = [row[name] for row in read_rows() for name in ("chat", "stream", "tools", "structured")]
    assert set(cells) == {WORKS, NOT_OFFERED}
    assert cells.count(NOT_OFFERED) < len(cells) / 10


@pytest.mark.parametrize("config", [CODEX_CONFIG, OPENCODE_CONFIG], ids=["codex", "opencode"])
def test_the_page_shows_the_configs_that_were_tried(config: str) -> None:
    shown = config.replace("{base_url}", "http://127.0.0.1:8000/v1").replace("tiny", "brindle-support")
    assert f"\n{shown}```" in PAGE.read_text(encoding="utf-8")
