"""Forks of one process that has imported the modules: scripts run in them as in new processes, and they end with it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.rehearsal.worker_processes.fork_client import SOCKET
from jobs.rehearsal.worker_processes.server_process import ForkServer
from tuneyard.core.errors import TrainingError

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks end with their parent by prctl, which is Linux's"
)

MODULE = "sndhdr" if sys.version_info < (3, 13) else "this"
"""A module that no process imports by itself."""

REPORT = """
import json, os, sys
found = {
    "imported": sys.argv[1] in sys.modules,
    "name": __name__,
    "arguments": sys.argv[1:],
    "environment": dict(os.environ),
    "directory": os.getcwd(),
    "leads_group": os.getpgid(0) == os.getpid(),
    "child": os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 3"], {}), 0)[1]),
}
print(json.dumps(found))
print("to standard error", file=sys.stderr)
"""

WAIT = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    # The folder's path is longer than a socket's name may be.
    with ForkServer(tmp_path_factory.mktemp("x" * 100) / "forks", [MODULE]) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    script = tmp_path_factory.mktemp("scripts") / "report.py"
    script.write_text(REPORT)
    return script


def command(server: ForkServer, script: Path, *arguments: str) -> list[str]:
    return [*shlex.split(server.worker_python), str(script), *arguments]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


@settings(max_examples=15, deadline=None)
@given(arguments=st.lists(TEXT, max_size=3), value=TEXT)
def test_a_fork_runs_a_script_as_a_new_process_would(
    server: ForkServer, report: Path, arguments: list[str], value: str
) -> None:
    environment = {"OF_THE_CLIENT": value}
    run = subprocess.run(
        command(server, report, MODULE, *arguments),
        env=environment,
        cwd=report.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout)
    assert found["imported"]
    assert found["name"] == "__main__"
    assert found["arguments"] == [MODULE, *arguments]
    assert found["environment"].items() >= environment.items()
    assert set(found["environment"]) <= {*environment, "LC_CTYPE"}  # Python's own
    assert found["directory"] == str(report.parent)
    assert found["leads_group"]
    assert found["child"] == 3, "a fork cannot wait for its own children"
    assert run.stderr == "to standard error\n"


@contextlib.contextmanager
def waiting_fork(server: ForkServer, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], psutil.Process]]:
    """A client and its fork, which waits until it is killed."""
    script, pid_file = folder / "wait.py", folder / "pid"
    script.write_text(WAIT)
    with subprocess.Popen(command(server, script, str(pid_file))) as client:
        try:
            wait_for(lambda: pid_file.is_file() and bool(pid_file.read_text()))
            yield client, psutil.Process(int(pid_file.read_text()))
        finally:
            client.kill()


def test_the_client_ends_when_its_fork_is_killed(server: ForkServer, tmp_path: Path) -> None:
    with waiting_fork(server, tmp_path) as (client, fork):
        assert client.poll() is None
        assert fork.pid != client.pid
        fork.kill()
        assert client.wait(60) == 0
        wait_for(lambda: not psutil.pid_exists(fork.pid))  # no zombie either, which Ray would take for a live process


def test_forks_end_with_the_server(tmp_path: Path) -> None:
    with contextlib.ExitStack() as ends:
        with ForkServer(tmp_path / "forks", []) as server:
            server.wait_until_ready()
            client, fork = ends.enter_context(waiting_fork(server, tmp_path))
        client.wait(60)
        wait_for(lambda: has_ended(fork))


def test_a_client_that_is_killed_in_its_request_harms_no_other(server: ForkServer, report: Path) -> None:
    folder = shlex.split(server.worker_python)[-1]
    before = Path.cwd()
    os.chdir(folder)
    try:
        for part in (b"", b"\n"):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(SOCKET)
                connection.sendall(part)
    finally:
        os.chdir(before)
    run = subprocess.run(command(server, report, MODULE), capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["imported"]


def test_a_module_that_cannot_be_imported_is_named_with_the_cause(tmp_path: Path) -> None:
    with ForkServer(tmp_path / "forks", ["no_such_module"]) as server, pytest.raises(TrainingError) as error:
        server.wait_until_ready()
    assert "could not import no_such_module" in str(error.value)
    assert "No module named 'no_such_module'" in str(error.value)
