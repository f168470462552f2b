"""`tuneyard cluster` without a cluster: mistakes are reported before Ray starts; cluster files are validated."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tuneyard.cli.main import main
from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.errors import ClusterError
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
    output = capsys.readouterr()
    assert f"Port {port} on " in output.err
    assert f"{option} {port + 1}" in output.err
    assert output.out == ""


def test_a_head_that_does_not_answer_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert main(["cluster", "join", address]) == 1
    assert f"No head answers at {address}" in capsys.readouterr().err


def test_validate_lists_the_lines_to_fill_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shipped = CHECKOUT / "cluster.yaml"
    assert main(["cluster", "validate", str(shipped)]) == 0
    lines = shipped.read_text(encoding="utf-8").splitlines()
    region = next(number for number, line in enumerate(lines, start=1) if line.startswith("  region:"))
    assert f"marked SET, for you to fill in: lines {region}, " in capsys.readouterr().out
    filled = tmp_path / "cluster.yaml"
    filled.write_text("\n".join(line.partition("# SET")[0] for line in lines))
    assert main(["cluster", "validate", str(filled)]) == 0
    output = capsys.readouterr().out
    assert output == f"{filled}: OK\n"


def test_validate_counts_problems_and_names_the_line_of_a_duplicate_key(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shipped = (CHECKOUT / "cluster.yaml").read_text(encoding="utf-8")
    misspelled = tmp_path / "misspelled.yaml"
    misspelled.write_text(shipped.replace("\nmax_workers:", "\nmax_worker:").replace("\nprovider:", "\nprovidre:"))
    assert main(["cluster", "validate", str(misspelled)]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{misspelled}: ")
    assert first.endswith(" problems")
    duplicate = tmp_path / "duplicate.yaml"
    duplicate.write_text(shipped + "max_workers: 5\n")
    assert main(["cluster", "validate", str(duplicate)]) == 1
    line = len(shipped.splitlines()) + 1
    assert f"{duplicate}, line {line}: not valid YAML: the key 'max_workers' repeats" in capsys.readouterr().err


@pytest.mark.parametrize("variable", ["RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "default file"])
def test_joining_needs_a_token_that_can_be_read(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a token, `ray start` replaces the process; here os.execv raises instead."""

    def execv(_: str, arguments: list[str]) -> None:
        raise ClusterError(f"executed {arguments[1]}")

    monkeypatch.setattr("os.execv", execv)
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        # setenv first, so that monkeypatch also undoes what the command sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.socket() as head:
        head.bind(("127.0.0.1", 0))
        head.listen()
        command = ["cluster", "join", f"127.0.0.1:{head.getsockname()[1]}"]
        assert main(command) == 1
        assert "This machine has no token of the cluster (found: none)" in capsys.readouterr().err
        if variable == "RAY_AUTH_TOKEN":
            monkeypatch.setenv(variable, "abc")
        else:
            file = tmp_path / ("token" if variable == "RAY_AUTH_TOKEN_PATH" else ".ray/auth_token")
            if variable == "RAY_AUTH_TOKEN_PATH":
                monkeypatch.setenv(variable, str(file))
                assert main(command) == 1
                assert "has no token of the cluster (found: RAY_AUTH_TOKEN_PATH)" in capsys.readouterr().err
            file.parent.mkdir(exist_ok=True)
            file.write_text("abc")
        assert main(command) == 1
        assert "executed start" in capsys.readouterr().err
