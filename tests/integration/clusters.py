"""Ray clusters of several nodes on this machine, started with `tuneyard cluster start` and `cluster join`."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.processes import Command, free_port, run, running

HIDE_FOLDER_AND_RUN = """
import ctypes, subprocess, sys
NEW_MOUNT_NAMESPACE = 0x20000
assert ctypes.CDLL(None).unshare(NEW_MOUNT_NAMESPACE) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv.pop(1)], check=True)
from tuneyard.cli.main import main
sys.exit(main())
"""
"""Python code that mounts an empty disk over the folder in its first argument, then runs `tuneyard` with the rest."""


class Cluster:
    """A head without CPUs, and workers that join and are killed."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, port: int, *ray_options: str) -> None:
        self._folder = folder
        self._stack = stack
        self._port, dashboard = port, free_port()
        self._nodes: dict[str, Command] = {}
        self.home = folder / "head home"
        self.address = f"http://127.0.0.1:{dashboard}"
        ports = ("--port", str(self._port), "--dashboard-port", str(dashboard))
        command = ("-m", "tuneyard.cli", "cluster", "start", *ports, "--", "--num-cpus", "0", *ray_options)
        head = self._start_node("head", self.home, *command)
        head.wait_for(lambda: "Ray runtime started" in head.output and self._is_answering(), "the head")

    def join(self, name: str, *, hidden: Path | None = None) -> None:
        """Adds a worker with 2 CPUs, which is given only the head's address and the token.

        An empty disk is mounted over the folder `hidden` for it.
        """
        program = ("-m", "tuneyard.cli") if hidden is None else ("-c", HIDE_FOLDER_AND_RUN, str(hidden))
        command = ("cluster", "join", f"127.0.0.1:{self._port}", "--", "--num-cpus", "2")
        node = self._start_node(name, self._folder / name, *program, *command)
        node.wait_for(lambda: "Ray runtime started" in node.output, f"the node {name}")

    def kill(self, name: str) -> None:
        """Kills all processes of the node, as a power cut does."""
        process = psutil.Process(self._nodes[name].process.pid)
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def kill_process(self, name: str, command_line_part: str) -> None:
        """Kills one process of the node whose command line contains the text."""
        self._nodes[name].descendants(command_line_part)[0].kill()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Runs `tuneyard ARGUMENTS --address …` outside the cluster; returns the exit code and the output."""
        return run(self._folder, self.home, *self.command(*arguments))

    def command(self, *arguments: str) -> tuple[str, ...]:
        """The arguments of `python` for `tuneyard ARGUMENTS` with the cluster's address."""
        return ("-m", "tuneyard.cli", *arguments, "--address", self.address)

    def cache_of(self, name: str) -> Path:
        """The folder where a node keeps copies of checkpoints."""
        return self._folder / name / "cache"

    def _start_node(self, name: str, home: Path, *arguments: str) -> Command:
        # A short path, because Ray's sockets in it have long names. One per node: nodes must not share unpacked files.
        ray_files = Path(tempfile.mkdtemp(prefix="ty-"))
        self._stack.callback(shutil.rmtree, ray_files, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TUNEYARD_CACHE", str(self.cache_of(name)))
            node = self._stack.enter_context(
                running(self._folder / name, home, *arguments, "--temp-dir", str(ray_files))
            )
        self._stack.callback(self._kill_if_running, name)
        self._nodes[name] = node
        return node

    def _kill_if_running(self, name: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.kill(name)

    def _is_answering(self) -> bool:
        try:
            return httpx.get(f"{self.address}/api/jobs/", timeout=5).status_code == httpx.codes.UNAUTHORIZED
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def cluster(folder: Path, port: int | None = None, *ray_options: str) -> Iterator[Cluster]:
    """A cluster with a running head, started with the options `ray_options`. At the end all nodes are killed."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # A job's `python` is the first one on the PATH of the cluster's nodes.
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        # A reported checkpoint waits for the controller's next health check.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        yield Cluster(folder, stack, port or free_port(), *ray_options)
