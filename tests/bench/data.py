"""Rows and tokens per second of rendering and validation, packing efficiency, memory for a million rows."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bases.tiny_oss import build_tiny_oss
from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.packing import packing_efficiency
from tuneyard.training_data.part_rendering import PART_CHATS

PEAK_MIB = """
def peak_mib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
"""
"""Defines the most memory that a process has held since it began its program; ru_maxrss counts its parent's too."""

VALIDATE = f"""
import sys
from tuneyard.cli.main import main
{PEAK_MIB}
assert main(sys.argv[1:]) == 0
print(peak_mib())
"""

ROWS, MANY_ROWS, CAPACITY = 10_000, 1_000_000, 2048
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "asks",
    "its",
    "handbook",
    "about",
    "filters,",
    "cables",
    "and",
    "Häuser",
    "in",
    "Zürich",
    "3.7",
    "metres",
    "away",
]


def run() -> dict[str, Any]:
    """Measures; memory is in MiB, the packing efficiency from 0 to 1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        validated = _validate(folder)
        base = folder / "tiny"
        build_tiny_oss(base)
        one = _render(base)
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            started = time.monotonic()
            both = pool.map(_render, [base, base])
            wall = time.monotonic() - started
        lengths = one["lengths"]
        return {
            "rows_per_s_one_core": ROWS / one["seconds"],
            "tokens_per_s_one_core": sum(lengths) / one["seconds"],
            "two_cores_over_one": sum(ROWS / b["seconds"] for b in both) / (ROWS / one["seconds"]),
            "wall_s_two_cores": wall,
            "packing_efficiency": _efficiency_in_parts(lengths),
            **validated,
        }


def _efficiency_in_parts(lengths: list[int]) -> float:
    """Packing efficiency when each part is packed separately, as the token store does."""
    parts = [lengths[start : start + PART_CHATS] for start in range(0, len(lengths), PART_CHATS)]
    capacity = sum(sum(part) / packing_efficiency(part, CAPACITY) for part in parts)
    return sum(lengths) / capacity


def long_tailed(rows: int, seed: int = 1) -> list[ChatExample]:
    """Chats whose answers have log-normal lengths."""
    rng = random.Random(seed)
    examples = []
    for number in range(rows):
        answer = " ".join(rng.choices(WORDS, k=min(400, int(rng.lognormvariate(3.3, 1.0)) + 2)))
        pair = (ChatMessage(role="user", content=f"Question {number}?"), ChatMessage(role="assistant", content=answer))
        examples.append(ChatExample(messages=pair, source=f"row {number}"))
    return examples


def _render(base: Path) -> dict[str, Any]:
    codec = HarmonyCodec.from_checkpoint(base, CodecSettings())
    examples = long_tailed(ROWS)
    started = time.perf_counter()
    lengths = [len(sample.token_ids) for example in examples for sample in codec.render_for_training(example)]
    return {"seconds": time.perf_counter() - started, "lengths": [n for n in lengths if n <= CAPACITY]}


def _validate(folder: Path) -> dict[str, float]:
    """Runs `tuneyard data validate` on a tenth of MANY_ROWS short rows and on all of them, each as a process."""
    result = {}
    for rows in (MANY_ROWS // 10, MANY_ROWS):
        path = folder / f"{rows}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(rows):
                messages = [{"role": "user", "content": f"q {number}"}, {"role": "assistant", "content": "a"}]
                file.write(json.dumps({"messages": messages}) + "\n")
        started = time.monotonic()
        command = [sys.executable, "-c", VALIDATE, "data", "validate", str(path)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds = time.monotonic() - started
        result[f"validate_{rows}_rows_per_s"] = rows / seconds
        result[f"validate_{rows}_peak_mib"] = float(output.split()[-1])
        path.unlink()
    return result
