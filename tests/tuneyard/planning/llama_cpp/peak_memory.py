"""Measures what llama.cpp takes: python -m tests.tuneyard.planning.llama_cpp.peak_memory FILE.gguf CONFIG.

CONFIG is a LlamaCppConfig as JSON. Answers a prompt in every slot, which fills a slot of 1024 tokens. Prints, as JSON,
the bytes that the process took beyond its imports; llama.cpp's own report of its buffers is in standard error.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path

import xllamacpp

from serve_apps.engines.llama_cpp.llama_server import server_parameters
from tests.process_memory import PeakMemory
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig

REPORT_BUFFERS = 4
"""llama.cpp's `verbosity` that reports the sizes of buffers."""


def main() -> None:
    """Loads the file, answers, prints."""
    config = LlamaCppConfig.model_validate_json(sys.argv[2])
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        parameters = server_parameters(config, Path(sys.argv[1]), Path(folder) / "http.sock")
        parameters.verbosity = REPORT_BUFFERS
        peak = PeakMemory()
        server = xllamacpp.Server(parameters)
        threads = [threading.Thread(target=_fill, args=(server, config, slot)) for slot in range(config.n_parallel)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(peak.stop()))


def _fill(server: xllamacpp.Server, config: LlamaCppConfig, slot: int) -> None:
    prompt = [20 + (7 * i + slot) % 900 for i in range(min(config.max_model_len, 1024) - 8)]
    fields = {"prompt": prompt, "max_tokens": 4, "temperature": 0, "id_slot": slot, "stream": True}
    chunks: list[str] = []
    server.handle_completions(json.dumps(fields), lambda chunk: bool(chunks.append(chunk)))
    assert not any('"error"' in chunk for chunk in chunks), chunks


if __name__ == "__main__":
    main()
