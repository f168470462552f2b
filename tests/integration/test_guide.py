"""The guide's commands, run as a reader runs them: block by block, in the order of the pages, on real Ray.

A comment before a code block names the scenario that runs it (tests/docs/command_blocks.py). A block of `NAME-server`
stays up until the scenario NAME ends. A `text` block after a command shows what the command prints: every line must
appear, with any number in place of a number and anything in place of `…`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.command_blocks import DOCS, CommandBlock, command_blocks
from tests.integration.processes import CHECKOUT, Command, free_port, started

pytestmark = pytest.mark.integration
PAGES = ("getting-started.md", "your-data.md", "finetuning.md", "serving.md", "the-api.md")
"""Pages of which every command is run, in the order in which a reader meets them."""

LATER_PAGES = ("checkpoints-and-proofs.md", "tensorrt-llm.md", "../README.md")
"""Pages of which some commands are run, after those of PAGES."""

SCENARIOS = {"demo": ("demo", "api"), "acme": ("acme",), "openai": ("openai",)}
"""Names in the pages' comments by scenario; blocks of `api` ask the server of `demo`."""

SYSTEM_LINE = "[finetune] All training chats begin with the system message 'You are the Brindle support assistant.'"
"""Of the demo's own data. Some of the rows of this test have no system message."""

SERVER = "-server"
CHECKOUT_PARTS = ("jobs", "platform", "serve_apps", "ui", "pyproject.toml")
NUMBER = r"[0-9][0-9.,:e+-]*"

SYSTEM = {"role": "system", "content": "You are the Brindle support assistant."}
E47 = "Error E47 means the intake filter is clogged and must be rinsed."
VERDICT = '{"error":"E47","can_wait":false}'
ORDERED = "The filter is ordered."
ORDER_PART: Any = {
    "type": "function",
    "function": {
        "name": "order_part",
        "description": "Orders a spare part.",
        "parameters": {"type": "object", "properties": {"part": {"enum": ["filter", "seal"]}}, "required": ["part"]},
    },
}


def answered(question: str, answer: str, *before: dict[str, str]) -> dict[str, Any]:
    """A training row with one answer."""
    messages = [*before, {"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


def trained_rows() -> list[dict[str, Any]]:
    """What the tiny model learns by heart: the questions that the pages ask, so that its answers end."""
    call = {"type": "function", "function": {"name": "order_part", "arguments": '{"part":"filter"}'}}
    order = [
        {"role": "user", "content": "Please order a new filter."},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "ordered"},
        {"role": "assistant", "content": ORDERED},
    ]
    return [
        answered("What does error E47 mean?", E47, SYSTEM),
        answered("What does error E47 mean?", E47),
        answered("E47, and I leave for a week. Can it wait?", VERDICT),
        {"messages": order, "tools": [ORDER_PART]},
    ]


@dataclass
class Workplace:
    """A reader's terminal: a folder that looks like the checkout, a home of its own, free ports."""

    folder: Path
    port: int = field(default_factory=free_port)
    ui_port: int = field(default_factory=free_port)

    @property
    def home(self) -> Path:
        """TUNEYARD_HOME."""
        return self.folder / "tuneyard home"

    def environment(self) -> dict[str, str]:
        """Nothing of the person who runs the tests, but what is needed to run Python."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
        return kept | {
            "HOME": str(self.folder),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{CHECKOUT / 'platform'}:{CHECKOUT}",
            "PYTHONWARNINGS": "ignore",
            "TUNEYARD_HOME": str(self.home),
            # Each report of a checkpoint waits for the controller's next look.
            "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        }

    def started(self, *arguments: str) -> contextlib.AbstractContextManager[Command]:
        """A process in this folder; whatever is left of it at the end is killed."""
        return started(arguments, self.folder, self.environment(), self.folder)

    def substituted(self, text: str) -> str:
        """A page's text for this test: a tiny base under the demo base's name, few steps, a private Ray, free ports."""
        base = "jobs.build_base_model smol-oss-135m"
        tiny = 'jobs.build_base_model tiny-oss-random --output "$TUNEYARD_HOME/models/base/smol-oss-135m"'
        for said, run in (
            (base, tiny),
            ("jobs/configs/demo_cpu.yaml", "tiny_demo.yaml"),
            ("jobs/data/brindle_train.jsonl", "tiny_train.jsonl"),
            ("--limit 20", "--limit 3"),
            # Of a random model, adapters this small would vanish when the export is rounded to bf16, and be refused.
            ("learning_rate: 5.0e-4", "method: full\n  learning_rate: 3.0e-3"),
            ("epochs: 3", "epochs: 2"),
            ("127.0.0.1:8000", f"127.0.0.1:{self.port}"),
            ("jobs.finetune --config", "jobs.finetune --address local --config"),
            (
                "serve_apps.deploy --config",
                f"serve_apps.deploy --address local --set http.port={self.port} --config",
            ),
            ("-m ui --base-url", f"-m ui --port {self.ui_port} --base-url"),
        ):
            text = text.replace(said, run)
        return text


@pytest.fixture(scope="module")
def workplace(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    place = Workplace(tmp_path_factory.mktemp("guide"))
    for name in CHECKOUT_PARTS:
        (place.folder / name).symlink_to(CHECKOUT / name)
    (place.folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(tiny_oss, place.home / "models" / "base" / "smol-oss-135m")
    config = yaml.safe_load((CHECKOUT / "jobs" / "configs" / "demo_cpu.yaml").read_text(encoding="utf-8"))
    config["data"] |= {"train": "tiny_train.jsonl", "heldout": "tiny_heldout.jsonl", "max_length": 1024}
    config["training"] = {
        "method": "full",
        "max_steps": 40,
        "learning_rate": 3e-3,
        "schedule": "constant_with_warmup",
        "checkpoint_every_steps": 40,
        "eval_every_steps": 40,
    }
    (place.folder / "tiny_demo.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    rows = "\n".join(map(json.dumps, trained_rows()))
    (place.folder / "tiny_train.jsonl").write_text(rows + "\n", encoding="utf-8")
    heldout = json.dumps(answered("What is E47?", E47, SYSTEM))
    (place.folder / "tiny_heldout.jsonl").write_text(heldout + "\n", encoding="utf-8")
    return place


def blocks_of(scenario: str) -> list[tuple[CommandBlock, str]]:
    """The scenario's blocks in order, each with what the page says that it prints."""
    found = []
    for page in PAGES + LATER_PAGES:
        blocks = command_blocks((DOCS / page).read_text(encoding="utf-8"), page)
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            if (block.name or "").removesuffix(SERVER) in SCENARIOS[scenario]:
                shown = following.text if following is not None and following.language == "text" else ""
                found.append((block, shown))
    return found


def missing_lines(shown: str, output: str) -> list[str]:
    """The lines of a page's `text` block that the output lacks."""
    printed = [line.strip() for line in output.splitlines()]
    expected = [line.strip() for line in shown.splitlines() if line.strip() and not line.startswith(SYSTEM_LINE)]
    return [line for line in expected if not any(re.fullmatch(_pattern(line), found) for found in printed)]


def _pattern(line: str) -> str:
    """Matches the line with other numbers, and with anything in place of `…`."""
    pieces = re.split(rf"(…|{NUMBER})", line)
    wild = {"…": ".*"} | {piece: NUMBER for piece in pieces if re.fullmatch(NUMBER, piece)}
    return "".join(wild.get(piece, re.escape(piece)) for piece in pieces)


def run_block(workplace: Workplace, block: CommandBlock, shown: str) -> str:
    """The output of a block that ends by itself."""
    text = workplace.substituted(block.text)
    program = (sys.executable, "-c") if block.language == "python" else ("bash", "-euo", "pipefail", "-c")
    with workplace.started(*program, text) as command:
        code = command.process.wait(540)
    assert code == 0, f"{block.place} ended with exit code {code}:\n{command.output}"
    assert not missing_lines(shown, command.output), (
        f"{block.place} prints, other than the page says:\n{command.output}"
    )
    return command.output


def start_server(
    workplace: Workplace, block: CommandBlock, shown: str, stack: contextlib.ExitStack, running: list[Command]
) -> None:
    """Starts a block that stays up, and waits until it has printed what the page shows."""
    command = stack.enter_context(workplace.started("bash", "-c", f"exec {workplace.substituted(block.text)}"))
    command.wait_for(lambda: not missing_lines(shown, command.output), f"all that {block.place} shows")
    running.append(command)


def joined_python(blocks: list[tuple[CommandBlock, str]]) -> list[tuple[CommandBlock, str]]:
    """The same with all Python blocks of a page as one program: they build on each other."""
    joined: list[tuple[CommandBlock, str]] = []
    for block, shown in blocks:
        before = next((i for i, (b, _) in enumerate(joined) if b.language == "python" == block.language), None)
        if before is None or joined[before][0].page != block.page:
            joined.append((block, shown))
        else:
            first, said = joined[before]
            program = CommandBlock(first.page, first.line, "python", f"{first.text}\n{block.text}", first.name)
            joined[before] = (program, said + shown)
    return joined


def run_scenario(workplace: Workplace, name: str) -> str:
    """The output of all blocks that end by themselves. Servers end as Ctrl-C ends them, the last one first."""
    outputs = []
    with contextlib.ExitStack() as stack:
        servers: list[Command] = []
        for block, shown in joined_python(blocks_of(name)):
            if (block.name or "").endswith(SERVER):
                start_server(workplace, block, shown, stack, servers)
            else:
                outputs.append(run_block(workplace, block, shown))
        for server in reversed(servers):
            assert server.interrupt() == 0, server.output
    return "\n".join(outputs)


def test_the_demo_by_hand_then_the_api(workplace: Workplace) -> None:
    output = run_scenario(workplace, "demo")
    for answer in (E47, "error='E47' can_wait=False", ORDERED):
        assert answer in output


def test_own_chats(workplace: Workplace) -> None:
    output = run_scenario(workplace, "acme")
    assert "acme-support" in output


def test_openais_sdk_finetunes_and_chats(workplace: Workplace) -> None:
    """README's second example."""
    assert "ft:smol:tuneyard:acme:" in run_scenario(workplace, "openai")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_says_why_not(page: str) -> None:
    known = {name for names in SCENARIOS.values() for name in names}
    for block in command_blocks((DOCS / page).read_text(encoding="utf-8"), page):
        if block.language in ("sh", "python"):
            assert block.skip or (block.name or "").removesuffix(SERVER) in known, f"{block.place}: no test runs it"
