"""Configs and chats that the guide shows are accepted by the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.docs.command_blocks import DOCS, CommandBlock, command_blocks, documentation_blocks
from tuneyard.chats.row_formats.registry import detect_format
from tuneyard.chats.row_reader import DEFAULT_SETTINGS, parse_chat_row
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.yaml_files import parse_yaml

README = DOCS.parent / "README.md"
BLOCKS = [*documentation_blocks(), *command_blocks(README.read_text("utf-8"), README.name)]
HERE_DOCUMENT = re.compile(r"^cat > (?P<file>\S+\.yaml) <<'EOF'\n(?P<text>.*?)^EOF$", re.MULTILINE | re.DOTALL)
DEPLOYMENTS = [block for block in BLOCKS if block.language == "yaml"]
ROWS = [block for block in BLOCKS if block.language == "json"]
FILES = [
    (f"{block.place} {match['file']}", match["text"])
    for block in BLOCKS
    if block.language == "sh"
    for match in HERE_DOCUMENT.finditer(block.text)
]
MODEL = {"model_id": "acme-support", "checkpoint": "acme-support@newest"}


@pytest.mark.parametrize("block", DEPLOYMENTS, ids=lambda block: block.place)
def test_a_deployment_is_valid(block: CommandBlock) -> None:
    shown = parse_yaml(block.text, block.place)
    ServeConfig.model_validate({"models": [MODEL]} | shown)


@pytest.mark.parametrize(("place", "text"), FILES, ids=[place for place, _ in FILES])
def test_a_config_that_a_reader_writes_is_valid(place: str, text: str, tmp_path: Path) -> None:
    shown = parse_yaml(text, place)
    config = FinetuneConfig if "run" in shown else ServeConfig
    config.model_validate(shown, context={"base_dir": tmp_path})


@pytest.mark.parametrize("block", ROWS, ids=lambda block: block.place)
def test_a_row_of_chats_can_be_trained_on(block: CommandBlock) -> None:
    row = json.loads(block.text)
    found_format = detect_format(row)
    assert found_format is not None
    found = parse_chat_row(row, block.place, found_format, DEFAULT_SETTINGS)
    assert found.example is not None, found


def test_there_is_something_to_check() -> None:
    assert len(DEPLOYMENTS) >= 3
    assert len(ROWS) >= 3
    assert len(FILES) >= 3
