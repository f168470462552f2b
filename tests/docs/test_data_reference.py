"""The reference page of data says what the catalogue of problems and the registry of formats say."""

from __future__ import annotations

from docs.tooling.data_reference import render_data_page
from tuneyard.chats.row_formats.names import FORMATS
from tuneyard.chats.row_problems import PROBLEMS


def test_the_page_has_every_problem_with_its_fix() -> None:
    page = render_data_page()
    for kind in PROBLEMS.values():
        entry = page[page.index(f"### `{kind.name}` {{ #{kind.name} }}") :]
        assert f"default `{kind.severity}`" in entry.split("###")[1]
        assert f"{kind.meaning}\n\n**Do:** {kind.fix}\n" in entry.split("### `")[1]


def test_the_page_has_every_format() -> None:
    page = render_data_page()
    assert all(f"| {known.title} (`{name}`) |" in page for name, known in FORMATS.items())
