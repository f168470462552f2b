"""`make demo`: the whole journey on this machine, each step the command that a user would type.

python -m tuneyard.cli.demo            until Ctrl-C
python -m tuneyard.cli.demo --check    ends by itself; the exit code says whether everything worked
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

from tuneyard.cluster.connection import CHECKOUT
from tuneyard.core.command import run_command
from tuneyard.core.errors import TuneyardError
from tuneyard.core.home import tuneyard_home
from tuneyard.core.ports import check_port_free
from tuneyard.core.room_commands import BUILD_BASE_MODEL, CHAT_PAGE, DEPLOY, EVALUATE, FINETUNE

BASE, TUNED = "smol-oss-135m", "brindle-support"
QUESTION = "Brindle stopped and now reports E47, any idea why?"
SYSTEM_PROMPT = "You are the Brindle support assistant."
NEEDED = {"heldout": 0.60, "well_formed": 0.95}
"""What --check asks of the tuned model, a little under what is measured; the base must know nothing."""
CHECKED_ROWS, SHOWN_ROWS = 43, 20
ANSWER_TOKENS = 64
"""More than any of the handbook's answers has; the base would ramble on."""

EXAMPLES = ("How do I factory reset my Brindle?", "How long is the warranty?", "What does error E47 mean?")
STARTING_TIMEOUT_S = 300.0


class DemoError(TuneyardError):
    """A step of the demo failed; its own output says why."""


class Demo:
    """The steps, in order. Everything that it starts it also ends."""

    def __init__(self, port: int, ui_port: int, *, check: bool) -> None:
        self._port = port
        self._ui_port = ui_port
        self._check = check
        self._started = time.monotonic()
        self._children = contextlib.ExitStack()
        self._environment = os.environ | {
            "TUNEYARD_HOME": str(tuneyard_home()),
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT / "platform"), str(CHECKOUT)]),
        }

    def run(self) -> None:
        """Runs all steps. Raises DemoError or KeyboardInterrupt; children are gone when it returns or raises."""
        check_port_free("127.0.0.1", self._port, f'make demo ARGS="--port {self._port + 1}"')
        check_port_free("127.0.0.1", self._ui_port, f'make demo ARGS="--ui-port {self._ui_port + 1}"')
        with self._children:
            with self._step("base model"):
                self._command("-m", BUILD_BASE_MODEL, BASE)
            with self._step("finetune"):
                self._command("-m", FINETUNE, "--config", "jobs/configs/demo_cpu.yaml", "--address", "local")
            with self._step("deploy base and tuned"):
                self._deploy()
            with self._step("first answer of the tuned model"):
                print(f"  ? {QUESTION}\n  {self._ask()}")
            print(f"[demo] first answer {self._elapsed()} after the start", flush=True)
            with self._step("chat page"):
                self._open_chat_page()
            with self._step("base against tuned on held-out questions"):
                scores = self._evaluate()
            if self._check:
                _check_scores(scores)
                print(f"[demo] everything worked, {self._elapsed()} in all", flush=True)
                return
            self._wait()

    def _deploy(self) -> None:
        config = "serve_apps/configs/demo_cpu.yaml"
        arguments = ["--config", config, "--address", "local", "--set", f"http.port={self._port}"]
        server = self._background("-m", DEPLOY, *arguments)
        _wait_for(f"{self._tuned_url}/models", server)
        _wait_for(f"{self._base_url}/models", server)

    def _ask(self) -> str:
        """The tuned model's answer, streamed by the real OpenAI client."""
        import openai

        client = openai.OpenAI(base_url=self._tuned_url, api_key="none")
        stream = client.chat.completions.create(
            model=TUNED,
            messages=[{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": QUESTION}],
            temperature=0,
            stream=True,
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    def _open_chat_page(self) -> None:
        page = self._background(
            "-m",
            CHAT_PAGE,
            *("--base-url", self._tuned_url, "--base-url", self._base_url, "--port", str(self._ui_port)),
            # A model of this size wanders at a higher one.
            *("--system-prompt", SYSTEM_PROMPT, "--title", "Brindle support", "--temperature", "0"),
            *(part for question in EXAMPLES for part in ("--example", question)),
        )
        _wait_for(f"http://127.0.0.1:{self._ui_port}/", page)

    def _evaluate(self) -> list[dict[str, object]]:
        result = tuneyard_home() / "demo_scores.json"
        self._command(
            *("-m", EVALUATE, "--data", "jobs/data/brindle_heldout.jsonl", "--json", str(result)),
            *("--model", f"{BASE}={self._base_url}", "--model", f"{TUNED}={self._tuned_url}"),
            *("--max-tokens", str(ANSWER_TOKENS)),
            "--limit",
            str(CHECKED_ROWS if self._check else SHOWN_ROWS),
        )
        scores: list[dict[str, object]] = json.loads(result.read_text(encoding="utf-8"))
        return scores

    def _wait(self) -> None:
        body = json.dumps({"model": TUNED, "messages": [{"role": "user", "content": QUESTION}]})
        print(
            f"\n  chat page  http://127.0.0.1:{self._ui_port}\n  API        {self._tuned_url}\n\n"
            f"  curl {self._tuned_url}/chat/completions -H 'Content-Type: application/json' -d '{body}'\n\n"
            "  Ctrl-C ends it.",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        print("\n[demo] stopping", flush=True)

    @property
    def _tuned_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def _base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/base/v1"

    @contextlib.contextmanager
    def _step(self, title: str) -> Iterator[None]:
        print(f"[demo] {title}", flush=True)
        started = time.monotonic()
        yield
        print(f"[demo] {title}: {time.monotonic() - started:.1f} s", flush=True)

    def _command(self, *arguments: str) -> None:
        with self._child(arguments) as child:
            code = child.wait()
        if code != 0:
            raise DemoError(f"`python {' '.join(arguments)}` ended with exit code {code}; its message stands above.")

    def _background(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self._children.enter_context(self._child(arguments))

    @contextlib.contextmanager
    def _child(self, arguments: tuple[str, ...]) -> Iterator[subprocess.Popen[bytes]]:
        """A child in a session of its own: Ctrl-C reaches this process alone, which then ends its children in order."""
        command = [sys.executable, *arguments]
        child = subprocess.Popen(command, cwd=CHECKOUT, env=self._environment, start_new_session=True)
        try:
            yield child
        finally:
            _end(child)

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._started)
        return f"{seconds // 60} min {seconds % 60} s"


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends a child: SIGINT, as a user would; SIGKILL to its whole group if that takes over 60 s."""
    if child.poll() is None:
        child.send_signal(signal.SIGINT)
    try:
        child.wait(60)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTING_TIMEOUT_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise DemoError(f"The server of {url} ended with exit code {server.returncode}; its message stands above.")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise DemoError(f"{url} does not answer after {STARTING_TIMEOUT_S:.0f} s.")


def _check_scores(scores: list[dict[str, object]]) -> None:
    base, tuned = (next(s for s in scores if s["model"] == model) for model in (BASE, TUNED))
    print(f"[demo] held-out answers right: base {base['contains']:.0%}, tuned {tuned['contains']:.0%}")
    problems = []
    if float(str(tuned["contains"])) < NEEDED["heldout"]:
        problems.append(
            f"the tuned model knows {tuned['contains']:.0%} of the held-out answers, not {NEEDED['heldout']:.0%}"
        )
    if float(str(tuned["well_formed"])) < NEEDED["well_formed"]:
        problems.append(f"only {tuned['well_formed']:.0%} of its answers are well-formed harmony")
    if float(str(base["contains"])) > 0.05:
        problems.append(f"the base already knows {base['contains']:.0%} of the answers")
    if problems:
        raise DemoError("; ".join(problems))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make demo", description="Finetune, serve and chat, for real, on this machine."
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the API (default 8000)")
    parser.add_argument("--ui-port", type=int, default=7860, help="port of the chat page (default 7860)")
    parser.add_argument("--check", action="store_true", help="end by itself; fail if anything did not work")
    arguments = parser.parse_args(argv)
    demo = Demo(arguments.port, arguments.ui_port, check=arguments.check)
    return run_command(demo.run, on_interrupt="[demo] interrupted; `make demo` goes on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
