"""The table of docs/nemo.md: values that the shipped configs set differently from NeMo's recipes.

PYTHONPATH=jobs/nemo/cpu/hook:platform:. .venv-nemo/bin/python -m tests.nemo.recipe_table      prints it
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONFIGS = ("gpt_oss_20b_lora", "gpt_oss_20b_full", "gpt_oss_120b_lora", "gpt_oss_120b_full")
FOLDER = Path("jobs/configs")


def table() -> list[str]:
    """Markdown lines, one per field in which a shipped config and its recipe differ."""
    from jobs.nemo.recipe import stock_recipe
    from tuneyard.configs.finetune import FinetuneConfig
    from tuneyard.core.config_loading import load_config
    from tuneyard.planning.nemo_recipe_values import recipe_values

    columns: list[dict[str, tuple[Any, Any]]] = []
    for name in CONFIGS:
        config = load_config(FinetuneConfig, FOLDER / f"{name}.yaml")
        stock = stock_recipe(config)
        columns.append({field: (_get(stock, field), value) for field, value in recipe_values(config).items()})
    fields = list(dict.fromkeys(field for column in columns for field in column))
    lines = [f"| field | {' | '.join(CONFIGS)} |", f"|---|{'---|' * len(CONFIGS)}"]
    for field in fields:
        pairs = [column.get(field) for column in columns]
        if any(pair is not None and pair[0] != pair[1] for pair in pairs):
            lines.append(f"| `{field}` | {' | '.join(_cell(pair) for pair in pairs)} |")
    return lines


def _get(recipe: Any, field: str) -> Any:
    for name in field.split("."):
        if not hasattr(recipe, name):
            return "(none)"
        recipe = getattr(recipe, name)
    return "(a logger)" if field == "log.tensorboard" else recipe


def _cell(pair: tuple[Any, Any] | None) -> str:
    if pair is None:
        return ""
    stock, ours = (str(value) for value in pair)
    return ours if stock == ours else f"{stock} → **{ours}**"


if __name__ == "__main__":
    print("\n".join(table()))
