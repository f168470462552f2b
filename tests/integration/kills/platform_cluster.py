"""A cluster with the fine-tuning API. Each of its processes can be killed, and it starts again after a power cut."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from tests.harmony_text import encode_spelled_out
from tests.integration.platform_server import platform_config
from tests.integration.processes import CHECKOUT, Command, free_port, run, running
from tuneyard.api.api_keys import KeyStore

MODEL = "scripted"
"""The model that answers batches."""

PARTS = {"API": "gateway:Platform", "reconciler": "gateway:Reconciler", "worker": "RayTrainWorker"}
"""Parts of the names of processes."""


class PlatformCluster:
    """One node with a head, on ports that stay the same. `folder` is for everything; see `scripted_finetune`."""

    def __init__(
        self, folder: Path, base: Path, checkpoint: Path, config: Mapping[str, Any], stack: contextlib.ExitStack
    ) -> None:
        self.home = folder / "home"
        self.journal = folder / "journal.jsonl"
        self.keys = KeyStore(self.home / "api_keys.json")
        self._folder = folder
        self._stack = stack
        self._token = folder / "token"
        self._ports = {"--port": free_port(), "--dashboard-port": free_port()}
        self._root = f"http://127.0.0.1:{free_port()}"
        self._address = f"http://127.0.0.1:{self._ports['--dashboard-port']}"
        self.home.mkdir(parents=True)
        self.keys.create("first")  # without any key a deployment that requires keys is refused
        script = [encode_spelled_out(base, "<|channel|>final<|message|>A rather long answer.<|return|>")]
        model = {
            "model_id": MODEL,
            "checkpoint": str(base),
            "engine": {"engine": "scripted", "script": script, "token_interval_s": 0.05},
            "replicas": {"num_cpus": 0.2, "max_ongoing_requests": 4},
        }
        limits = {"max_running_jobs": 3, "max_active_jobs_per_key": None}
        port = int(self._root.rpartition(":")[2])
        self._config = platform_config(folder, base, port, models=[model], more=config, **limits)
        # A job's `python` is the first one on the PATH of the cluster's nodes.
        program = folder / "bin" / "python"
        program.parent.mkdir()
        python = shlex.quote(sys.executable)
        scripted = shlex.join(
            [str(CHECKOUT / "tests/integration/kills/scripted_finetune.py"), str(self.journal), str(checkpoint)]
        )
        program.write_text(
            f'#!/bin/sh\ncase "$*" in "-m jobs.finetune "*) exec {python} -W ignore {scripted} "$@";; esac\n'
            f'exec {python} "$@"\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
        self._path = f"{program.parent}:{Path(sys.executable).parent}:/usr/bin:/bin"
        self.head: Command
        self.start()

    def start(self) -> None:
        """Starts the head, and then the API as an operator does."""
        ray_files = tempfile.mkdtemp(prefix="ty-")
        self._stack.callback(shutil.rmtree, ray_files, ignore_errors=True)
        ports = [text for name, port in self._ports.items() for text in (name, str(port))]
        options = ("--num-cpus", "4", "--object-store-memory", str(300 * 2**20), "--temp-dir", ray_files)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", self._path)
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(self._token))
            # A reported checkpoint waits for the controller's next health check.
            patch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
            arguments = ("-m", "tuneyard.cli", "cluster", "start", "--this-machine-only", *ports, "--", *options)
            head = self._stack.enter_context(running(self._folder, self.home, *arguments))
            self.head = head
            self._stack.callback(self._kill_all_of, head)
            head.wait_for(lambda: "Ray runtime started" in head.output and self._has_job_server(), "the head")
            arguments = ("platform", "start", str(self._config), "--address", self._address)
            code, output = run(self._folder, self.home, "-m", "tuneyard.cli", *arguments)
            assert code == 0, output

    def kill_node(self) -> None:
        """Kills the head and everything that it runs, as a power cut does."""
        self._kill_all_of(self.head)

    def processes(self, part: str) -> list[psutil.Process]:
        """The processes of one of PARTS that run; of `driver`, those of jobs; of `real driver`, of jobs that train."""
        if part in PARTS:
            return self.head.descendants(PARTS[part])
        commands = [(process, _command(process)) for process in self.head.descendants("finetune")]
        drivers = [(process, " ".join(command)) for process, command in commands if command[:1] == [sys.executable]]
        return [process for process, command in drivers if part == "driver" or "scripted_finetune" not in command]

    def client(self, secret: str) -> openai.OpenAI:
        """The unmodified SDK, which repeats nothing."""
        return openai.OpenAI(base_url=f"{self._root}/v1", api_key=secret, max_retries=0, timeout=20)

    def ask(self, path: str) -> Any:
        """The JSON that the dashboard answers."""
        token = self._token.read_text(encoding="utf-8").strip()
        response = httpx.get(f"{self._address}{path}", headers={"Authorization": f"Bearer {token}"}, timeout=30)
        response.raise_for_status()
        return response.json()

    def is_answering(self) -> bool:
        """Whether the API answers."""
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self._root}/healthz", timeout=2).status_code == httpx.codes.OK
        return False

    def _has_job_server(self) -> bool:
        with contextlib.suppress(httpx.HTTPError, FileNotFoundError):
            self.ask("/api/jobs/")
            return True
        return False

    def _kill_all_of(self, head: Command) -> None:
        """Kills the head, what it started, and what those started meanwhile."""
        if head.process.poll() is not None:
            return
        processes = [psutil.Process(head.process.pid), *head.descendants()]
        while processes:
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            head.process.wait()
            psutil.wait_procs(processes, timeout=20)
            processes = [process for process in psutil.process_iter() if _home(process) == str(self.home)]


@contextlib.contextmanager
def platform_cluster(
    folder: Path, base: Path, checkpoint: Path, config: Mapping[str, Any]
) -> Iterator[PlatformCluster]:
    """A running cluster, which is killed at the end. Jobs finetune `base`; scripted ones publish `checkpoint`.

    `config` has more sections of the deployment's config.
    """
    with contextlib.ExitStack() as stack:
        yield PlatformCluster(folder, base, checkpoint, config, stack)


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def _home(process: psutil.Process) -> str | None:
    """The TUNEYARD_HOME of a process that still runs."""
    try:
        return process.environ().get("TUNEYARD_HOME") if process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def write_rows(count: int) -> bytes:
    """A file of short chats to train on."""
    chats = [
        {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
        for n in range(count)
    ]
    return "".join(json.dumps(chat) + "\n" for chat in chats).encode()
