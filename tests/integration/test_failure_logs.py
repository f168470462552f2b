"""The report of a failed test has the logs of what it started. Without Ray: a process stands for Ray's."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from tests.integration.processes import Command, started, take_logs

PROGRAM = """
import subprocess, sys, time
print("[serve] serving", flush=True)
subprocess.run([sys.executable, "-c", "import time; time.sleep(60)", "--raylet_socket_name=" + sys.argv[1]])
"""


def wait_for_node(command: Command) -> None:
    deadline = time.monotonic() + 30
    while not (command.output and command.descendants("--raylet_socket_name=")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    logs = tmp_path / "session" / "logs"
    logs.mkdir(parents=True)
    (logs / "worker-1.err").write_text("Traceback (most recent call last):\nKeyError: 'the cause'\n", encoding="utf-8")
    (logs / "worker-2.err").write_text("all is well\n", encoding="utf-8")
    return [sys.executable, "-c", PROGRAM, str(tmp_path / "session" / "sockets" / "raylet")]


def test_of_commands_that_run_and_of_those_that_a_failure_has_ended(arguments: list[str], tmp_path: Path) -> None:
    with started(arguments, tmp_path, os.environ, tmp_path) as command:
        wait_for_node(command)
        running = take_logs()
    assert [text for _, text in running] == [
        "[serve] serving\n",
        "Traceback (most recent call last):\nKeyError: 'the cause'\n",
    ]
    assert take_logs() == []

    def fail() -> None:
        with started(arguments, tmp_path, os.environ, tmp_path) as command:
            wait_for_node(command)
            raise AssertionError

    with pytest.raises(AssertionError):
        fail()
    assert take_logs() == running
    assert take_logs() == []
