"""Runs commands as users do: as processes, with their own TUNEYARD_HOME and output file."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import psutil

from tests.integration.failure_logs import read_logs
from tuneyard.core.ports import free_port

__all__ = ["Command", "free_port", "run", "running", "started", "take_logs"]

CHECKOUT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 540.0


_running: list[Command] = []
_kept_logs: list[tuple[str, str]] = []
"""Of commands that an exception has ended."""


class Command:
    """A running command whose output goes to a file."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def descendants(self, name_part: str = "") -> list[psutil.Process]:
        """The running descendants of this process whose command line contains `name_part`."""
        processes = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name_part in " ".join(process.cmdline()):
                    processes.append(process)
        return processes

    def logs(self) -> list[tuple[str, str]]:
        """Title and text of its logs; see failure_logs."""
        return list(read_logs(self)) if self.process.poll() is None else [("output of a command", self.output)]

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until the condition holds. Fails with the output if the command ends first, or after TIMEOUT_S.

        `what` names the awaited event in the failure.
        """
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"no {what} in {TIMEOUT_S} s:\n{self.output}"
            time.sleep(0.1)

    def kill_training_worker(self) -> None:
        """Kills the first Ray Train worker and waits until another one has taken its place."""
        before = {process.pid for process in self.descendants("RayTrainWorker")}
        os.kill(min(before), signal.SIGKILL)
        self.wait_for(
            lambda: any(process.pid not in before for process in self.descendants("RayTrainWorker")),
            "new worker in place of the killed one",
        )

    def interrupt(self) -> int:
        """Sends SIGINT, as Ctrl-C does, waits for the end, and returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT_S)


@contextlib.contextmanager
def started(arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], folder: Path) -> Iterator[Command]:
    """Runs a program with a log file in `folder`. At the end, what still runs of it and its descendants is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"command-{time.time_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(arguments, cwd=cwd, env=environment, stdout=file, stderr=file)
    command = Command(process, log)
    children: list[psutil.Process] = []
    _running.append(command)
    try:
        yield command
    except BaseException:
        _kept_logs.extend(command.logs())
        raise
    finally:
        _running.remove(command)
        if process.poll() is None:
            children = command.descendants()
            process.kill()
        process.wait()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()


@contextlib.contextmanager
def running(folder: Path, home: Path, *arguments: str) -> Iterator[Command]:
    """Runs `python ARGUMENTS` in the checkout, with `home` as TUNEYARD_HOME and a log file in `folder`."""
    python_path = os.pathsep.join(["platform", ".", *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"TUNEYARD_HOME": str(home), "PYTHONPATH": python_path}
    with started([sys.executable, "-W", "ignore", *arguments], CHECKOUT, environment, folder) as command:
        yield command


def run(folder: Path, home: Path, *arguments: str) -> tuple[int, str]:
    """Runs a command until it ends by itself; returns its exit code and its output. See `running` for the arguments."""
    with running(folder, home, *arguments) as command:
        code = command.process.wait(TIMEOUT_S)
    return code, command.output


def take_logs() -> list[tuple[str, str]]:
    """Title and text of the logs of all commands that run now, and of those that an exception has ended since the last
    call."""
    logs = [*_kept_logs, *(log for command in _running for log in command.logs())]
    _kept_logs.clear()
    return logs
