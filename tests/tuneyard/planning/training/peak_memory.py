"""Measures the main memory of a step of a run: python -m tests.tuneyard.planning.training.peak_memory STEP BASE.

Prints the bytes that the process takes beyond its imports, as JSON. Files that are mapped into memory do not count,
because Linux drops their pages when memory is needed.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import torch
import transformers

from jobs.checkpoints.proved_export import _reloaded_logits
from jobs.training.backend import TokenFiles
from jobs.training.trainable_model import load_trainable_model
from jobs.training.transformers_backend import TransformersBackend
from tests.jobs.training.backend_contract import RecordingContext, backend_config
from tests.process_memory import PeakMemory

ROW = {"input_ids": [40] * 64, "labels": [-100] * 32 + [40] * 32, "position_ids": [*range(64)], "segment_ids": [0] * 64}


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
