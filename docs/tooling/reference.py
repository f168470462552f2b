"""The generated pages: every config field, every command, and what is said about data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from docs.tooling.command_reference import render_commands_page
from docs.tooling.config_reference import render_config_page
from docs.tooling.data_reference import render_data_page
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig

FINETUNE_INTRODUCTION = """\
Every field of the YAML file that `python -m jobs.finetune --config` and `tuneyard jobs submit` take. A field left out
keeps its default; an unknown field is an error. `--set training.epochs=2` overrides a field on the command line."""

SERVE_INTRODUCTION = """\
Every field of the YAML file that `python -m serve_apps.deploy --config` and `tuneyard serve deploy` take. A field left
out keeps its default; an unknown field is an error. `N` is the place in a list, counted from 0:
`--set models.0.engine.threads=2` overrides a field of the first model."""


def finetune_config_page() -> str:
    """Every field of a finetuning run."""
    return render_config_page("Finetune config", FINETUNE_INTRODUCTION, FinetuneConfig)


def serve_config_page() -> str:
    """Every field of a deployment."""
    return render_config_page("Serve config", SERVE_INTRODUCTION, ServeConfig)


REFERENCE_PAGES: dict[str, Callable[[], str]] = {
    "finetune-config.md": finetune_config_page,
    "serve-config.md": serve_config_page,
    "commands.md": render_commands_page,
    "data.md": render_data_page,
}
"""File name and text of each page in docs/reference/."""


def write_reference(folder: Path) -> None:
    """Writes all generated pages; a page that has not changed keeps its time, so that it is not built again."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, render in REFERENCE_PAGES.items():
        path, text = folder / name, render()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
