"""Mistakes at starting and joining a cluster, said before Ray says them in its own way; what is left to fill in."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tuneyard.cli.main import main
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.ports import free_port


@pytest.mark.parametrize("option", ["--port", "--dashboard-port"])
def test_a_taken_port_is_named_before_anything_starts(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        others = {"--port", "--dashboard-port"} - {option}
        more = [part for other in others for part in (other, str(free_port()))]
        assert main(["cluster", "start", option, str(port), *more]) == 1
    said = capsys.readouterr()
    assert f"Port {port} on " in said.err
    assert f"{option} {port + 1}" in said.err
    assert said.out == ""


def test_a_head_that_does_not_answer_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert main(["cluster", "join", address]) == 1
    assert f"No head answers at {address}" in capsys.readouterr().err


def test_what_is_still_marked_set_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = CHECKOUT / "cluster.yaml"
    assert main(["cluster", "validate", str(shipped)]) == 0
    lines = shipped.read_text(encoding="utf-8").splitlines()
    region = next(number for number, line in enumerate(lines, start=1) if line.startswith("  region:"))
    assert f"still marked SET, for you to fill in: lines {region}, " in capsys.readouterr().out
    filled = tmp_path / "cluster.yaml"
    filled.write_text("\n".join(line.partition("# SET")[0] for line in lines))
    assert main(["cluster", "validate", str(filled)]) == 0
    assert "SET" not in capsys.readouterr().out
