"""Measures the main memory of a step of a run: python -m tests.tuneyard.planning.training.peak_memory STEP BASE.

Prints the bytes that the process takes beyond its imports, as JSON. Files that are mapped into memory do not count,
because Linux drops their pages when memory is needed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from pathlib import Path

import torch
import transformers

from jobs.checkpoints.proved_export import _reloaded_logits
from jobs.training.backend import TokenFiles
from jobs.training.trainable_model import load_trainable_model
from jobs.training.transformers_backend import TransformersBackend
from tests.jobs.training.backend_contract import RecordingContext, backend_config

ROW = {"input_ids": [40] * 64, "labels": [-100] * 32 + [40] * 32, "position_ids": [*range(64)], "segment_ids": [0] * 64}
SAMPLE_S = 0.005


class PeakMemory:
    """The largest number of anonymous bytes of this process, sampled by a thread until `stop`."""

    def __init__(self) -> None:
        self._start = self._peak = _anonymous_bytes()
        self._is_done = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._is_done.wait(SAMPLE_S):
            self._peak = max(self._peak, _anonymous_bytes())

    def stop(self) -> int:
        """Bytes of the peak beyond the start."""
        self._is_done.set()
        self._thread.join()
        return self._peak - self._start


def _anonymous_bytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def main() -> None:
    """Runs the step that the first argument names, on the base in the folder that the second one names."""
    step, base = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    config = backend_config(base, method="lora" if step == "load" else "full", max_steps=2, checkpoint_every_steps=9)
    with tempfile.TemporaryDirectory() as name:
        folder, peak = Path(name), PeakMemory()
        if step == "load":
            load_trainable_model(config)
        elif step == "export":
            TransformersBackend().export_hf(config, base, folder, [ROW])
            _reloaded_logits(folder, [ROW])
        else:
            tokens = TokenFiles(base.parent / "tokens", base.parent / "tokens")
            TransformersBackend().train(config, tokens, RecordingContext(folder / "work"))
        print(json.dumps(peak.stop()))


if __name__ == "__main__":
    main()
