"""Trains both backends on the same base, tokens, seed and settings, all weights in fp32, and plots the losses.

PYTHONPATH=jobs/nemo/cpu/hook:platform:. .venv-nemo/bin/python -m tests.nemo.loss_curves      writes the plot
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from jobs.workers.backend_factory import create_backend
from tests.jobs.training.backend_contract import RecordingContext, backend_config, stored, token_rows

STEPS = 20
PLOT = Path("docs/images/nemo_loss_curves.svg")


def train_both(base: Path, folder: Path) -> dict[str, list[float]]:
    """The loss of each step in nats per labelled token, by backend."""
    tokens = stored(token_rows(base, 60), folder / "tokens")
    losses = {}
    for backend in ("transformers", "nemo"):
        config = backend_config(
            base,
            name=f"curve-{backend}",
            backend=backend,
            method="full",
            learning_rate=0.001,
            weight_decay=0.1,
            max_steps=STEPS,
            checkpoint_every_steps=STEPS,
        )
        context = RecordingContext(folder / backend)
        create_backend(config).train(config, tokens, context)
        losses[backend] = context.losses
    return losses


def _plot() -> None:
    import torch
    import transformers
    from matplotlib import pyplot as plt

    from jobs.bases.tiny_oss import build_tiny_oss

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        build_tiny_oss(folder / "tiny")
        base = folder / "fp32"
        transformers.GptOssForCausalLM.from_pretrained(folder / "tiny", dtype=torch.float32).save_pretrained(base)
        transformers.AutoTokenizer.from_pretrained(folder / "tiny").save_pretrained(base)
        losses = train_both(base, folder)
    worst = max(abs(a - b) for a, b in zip(*losses.values(), strict=True))
    steps = range(1, STEPS + 1)
    figure, axes = plt.subplots(figsize=(7, 3.5))
    axes.plot(steps, losses["transformers"], color="#b8c4d6", linewidth=6, label="transformers")
    axes.plot(steps, losses["nemo"], color="#1f4e8c", linewidth=1.5, marker="o", markersize=3, label="NeMo")
    axes.set(xlabel="step", ylabel="loss, nats per labelled token", title=f"largest difference: {worst:.1e}")
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})
    print(f"wrote {PLOT}; largest difference {worst:.1e}")


if __name__ == "__main__":
    _plot()
