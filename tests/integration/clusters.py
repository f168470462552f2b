"""Clusters of several nodes on this machine, made by the commands that a user types."""

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

HIDING = """
import ctypes, subprocess, sys
NEW_MOUNT_NAMESPACE = 0x20000
assert ctypes.CDLL(None).unshare(NEW_MOUNT_NAMESPACE) == 0
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", sys.argv.pop(1)], check=True)
from tuneyard.cli.main import main
sys.exit(main())
"""
"""`tuneyard` with an empty disk of its own in place of a folder."""


class Cluster:
    """A head without CPUs, and workers that join and die. `run` is `tuneyard …` from a folder that is no checkout."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack, port: int, *ray_options: str) -> None:
        self._folder = folder
        self._stack = stack
        self._port, dashboard = port, free_port()
        self._nodes: dict[str, Command] = {}
        self.home = folder / "head home"
        self.address = f"http://127.0.0.1:{dashboard}"
        ports = ("--port", str(self._port), "--dashboard-port", str(dashboard))
        command = ("-m", "tuneyard.cli", "cluster", "start", *ports, "--", "--num-cpus", "0", *ray_options)
        head = self._node("head", self.home, *command)
        head.wait_for(lambda: "Ray runtime started" in head.output and self._answers(), "the head")

    def join(self, name: str, *, hidden: Path | None = None) -> None:
        """A worker with 2 CPUs, which knows nothing but the head's address and the token. It does not see `hidden`."""
        how = ("-m", "tuneyard.cli") if hidden is None else ("-c", HIDING, str(hidden))
        command = ("cluster", "join", f"127.0.0.1:{self._port}", "--", "--num-cpus", "2")
        node = self._node(name, self._folder / name, *how, *command)
        node.wait_for(lambda: "Ray runtime started" in node.output, f"the node {name}")

    def kill(self, name: str) -> None:
        """As when its power is cut."""
        process = psutil.Process(self._nodes[name].process.pid)
        for one in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()

    def kill_one(self, name: str, part: str) -> None:
        """A process of the node, by a part of its command line."""
        self._nodes[name].descendants(part)[0].kill()

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of a command of ours, asked from a machine beside the cluster."""
        return run(self._folder, self.home, *self.command(*arguments))

    def command(self, *arguments: str) -> tuple[str, ...]:
        return ("-m", "tuneyard.cli", *arguments, "--address", self.address)

    def cache_of(self, name: str) -> Path:
        """Where a node keeps copies of checkpoints."""
        return self._folder / name / "cache"

    def _node(self, name: str, home: Path, *arguments: str) -> Command:
        # Short, for sockets in it have long names; its own, or the nodes would share what Ray unpacks.
        ray_files = Path(tempfile.mkdtemp(prefix="ty-"))
        self._stack.callback(shutil.rmtree, ray_files, ignore_errors=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TUNEYARD_CACHE", str(self.cache_of(name)))
            node = self._stack.enter_context(
                running(self._folder / name, home, *arguments, "--temp-dir", str(ray_files))
            )
        self._stack.callback(self._kill_if_there, name)
        self._nodes[name] = node
        return node

    def _kill_if_there(self, name: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.kill(name)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/api/jobs/", timeout=5).status_code == httpx.codes.UNAUTHORIZED
        except httpx.HTTPError:
            return False


@contextlib.contextmanager
def cluster(folder: Path, port: int | None = None, *ray_options: str) -> Iterator[Cluster]:
    """A running head, with more options for `ray start`; everything that joined it is gone at the end."""
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # The job's `python` is the one that the cluster's machines find.
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        patch.setenv("RAY_AUTH_TOKEN_PATH", str(folder / "token"))
        # Each report of a checkpoint waits for the controller's next look.
        patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
        yield Cluster(folder, stack, port or free_port(), *ray_options)
