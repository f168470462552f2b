from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.core.errors import ConfigError
from ui.__main__ import build_parser, run_page
from ui.server.listening import open_socket


def test_a_file_of_votes_is_refused_where_each_person_signs_in(tmp_path: Path) -> None:
    arguments = build_parser().parse_args(["--sign-in", "--votes", str(tmp_path / "votes.jsonl")])
    with (
        open_socket("127.0.0.1", 0) as listener,
        pytest.raises(ConfigError, match="all visitors would share the votes in this file"),
    ):
        run_page(arguments, listener)


def test_a_folder_is_no_file_of_votes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--votes", str(tmp_path)])
    assert "is a folder; name a file" in capsys.readouterr().err
