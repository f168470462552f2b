"""NeMo checkpoints that were written before our modules moved still load."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from jobs.nemo.connectors.old_module_names import OLD_NAMES, accept_old_names

pytest.importorskip("nemo")
pytestmark = pytest.mark.nemo

STORED = {
    "jobs.nemo_connectors": "forward_without_mask",
    "jobs.nemo_data": "TokenStoreDataModule",
    "jobs.nemo_schedule": "TransformersSchedule",
}
"""The names that contexts hold."""


@pytest.mark.parametrize("module", sorted(OLD_NAMES))
def test_an_old_name_is_the_object_of_today(module: str) -> None:
    accept_old_names()
    old = getattr(importlib.import_module(module), STORED[module])
    assert old is getattr(importlib.import_module(OLD_NAMES[module]), STORED[module])


def test_a_context_with_old_names_loads(tmp_path: Path) -> None:
    from jobs.nemo.fixes import apply_fixes

    apply_fixes()
    from nemo.lightning.io import load_context

    from jobs.nemo.schedule import TransformersSchedule

    TransformersSchedule("linear", warmup_ratio=0.1).io_dump(tmp_path, yaml_attrs=[])
    path = tmp_path / "io.json"
    text = path.read_text(encoding="utf-8")
    assert "jobs.nemo.schedule" in text
    path.write_text(text.replace("jobs.nemo.schedule", "jobs.nemo_schedule"), encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8"))
    assert isinstance(load_context(tmp_path), TransformersSchedule)
