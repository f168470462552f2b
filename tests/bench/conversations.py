"""Memory and speed of rendering long conversations, and of reading one very long line."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jobs.bases.tiny_oss import build_tiny_oss
from tests.bench.data import PEAK_MIB

CHATS, TURNS = 10_000, 20
LINE_BYTES = (16 << 20, 128 << 20)

RENDER = f"""
import json, resource, sys, time
from pathlib import Path
from tuneyard.chats.dataset import DatasetScan
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings
from tuneyard.training_data.token_part import part_files, read_file_summary
from tuneyard.training_data.token_store import build_token_store
{PEAK_MIB}
if __name__ == "__main__":
    chats, base, root = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    source = ChatSource(lambda: DatasetScan(chats), int(sys.argv[4]), "bench", chats)
    started = time.monotonic()
    store = build_token_store(source, TokenSettings(base, CodecSettings(), max_length=8192), root, processes=2)
    seconds = time.monotonic() - started
    of_processes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    files = [read_file_summary(path)["tokens"] for path in part_files(store.path)]
    print(json.dumps({{"rows": store.rows, "tokens": store.tokens, "too_long": store.too_long, "seconds": seconds,
                      "files": len(files), "most_tokens_in_a_file": max(files), "driver_peak_mib": peak_mib(),
                      "process_peak_mib": of_processes}}))
"""


def run() -> dict[str, Any]:
    """Measures; memory is the resident set of a process at its peak, in MiB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_tiny_oss(folder / "tiny")
        write_conversations(folder / "chats.jsonl")
        (folder / "render.py").write_text(RENDER, encoding="utf-8")
        command = [sys.executable, "render.py", "chats.jsonl", "tiny", "tokens", str(CHATS)]
        output = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout
        rendered = json.loads(output)
    short, long = (min(_seconds_to_read_a_line(size) for _ in range(3)) for size in LINE_BYTES)
    return {
        **rendered,
        "rows_per_s_two_cores": rendered["rows"] / rendered["seconds"],
        "tokens_per_s_two_cores": rendered["tokens"] / rendered["seconds"],
        "cpu_seconds_for_a_line_of_128_mib": long,
        "its_time_over_that_of_16_mib": long / short,
    }


def write_conversations(path: Path) -> None:
    """CHATS chats of TURNS turns, in which each question has about 20 words and each answer 50."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(CHATS):
            messages = []
            for turn in range(TURNS):
                question = f"Question {turn} of chat {number}: " + "what does the handbook say about filters? " * 2
                answer = f"Answer {turn}: " + "the handbook says that filters are cleaned every seven weeks. " * 5
                messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": messages}) + "\n")


def _seconds_to_read_a_line(size: int) -> float:
    from tuneyard.chats.readers.json_rows import read_jsonl

    content = "word " * (size // 5)
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "a"}]
    stream = io.BytesIO(json.dumps({"messages": messages}).encode())
    started = time.process_time()
    (row,) = read_jsonl(stream, "long.jsonl")
    seconds = time.process_time() - started
    assert len(row.value["messages"][0]["content"]) == len(content)
    return seconds
