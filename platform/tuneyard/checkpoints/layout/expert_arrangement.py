"""Whether a checkpoint's experts are arranged as its base's: no shape tells, and every loader takes them as they come.

A finetuned expert still resembles its base's, element by element. One with gate and up side by side instead of
interleaved, or transposed (GPT-OSS's down_proj is square), resembles it only when rearranged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.checkpoints.layout.gpt_oss import read_json
from tuneyard.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

MIN_SIMILARITY = 0.7
"""Cosine. LoRA and full finetuning stay above 0.9, rounding to MXFP4 above 0.99; unrelated experts are near 0."""


def arrangement_problems(folder: Path, base: Path) -> Iterator[str]:
    """Wrongly arranged experts, by name: the first expert of the first, a middle and the last layer.

    Raises CheckpointError when one of the folders lacks them.
    """
    layers = int(read_json(base / "config.json")["num_hidden_layers"])
    for layer in sorted({0, layers // 2, layers - 1}):
        for part, others in (("gate_up_proj", _GATE_UP), ("down_proj", _DOWN)):
            name = f"model.layers.{layer}.mlp.experts.{part}"
            found, expected = (_first_expert(place, name) for place in (folder, base))
            if found.shape != expected.shape:
                yield f"{name}: shape {list(found.shape)} where the base has {list(expected.shape)}."
                continue
            straight = _similarity(found, expected)
            if straight >= MIN_SIMILARITY:
                continue
            for words, rearrange in others.items():
                if (alike := rearrange(expected)).shape == found.shape and _similarity(found, alike) >= MIN_SIMILARITY:
                    yield f"{name}: {words}. Every engine would compute with them as they lie. Export it again."
                    break
            else:
                yield (
                    f"{name}: its first expert is not like that of the base {base} (cosine {straight:.2f}), nor a "
                    "known rearrangement of it: they are different models, or it was damaged."
                )


def _side_by_side(matrix: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat((matrix[:, ::2], matrix[:, 1::2]), dim=1)


def _swapped(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.reshape(matrix.shape[0], -1, 2).flip(-1).reshape(matrix.shape)


_GATE_UP: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gate and up lie side by side where GPT-OSS interleaves them": _side_by_side,
    "gate and up are exchanged": _swapped,
    "it is transposed": lambda matrix: matrix.T,
}
_DOWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"it is transposed": lambda matrix: matrix.T}


def _similarity(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-30))


def _first_expert(folder: Path, name: str) -> torch.Tensor:
    """fp32 [in, out], on the CPU; MXFP4 dequantised."""
    expert = _first_of(folder, name)
    if expert is not None:
        return expert.float()
    blocks, scales = (_first_of(folder, f"{name}_{part}") for part in ("blocks", "scales"))
    if blocks is None or scales is None:
        raise CheckpointError(f"{folder}: has no {name}, nor its MXFP4 blocks and scales.")
    return _dequantised(blocks, scales)


def _first_of(folder: Path, name: str) -> torch.Tensor | None:
    """A tensor's first slice, whichever file holds it; None when none does."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in set(file.keys()):
                found: torch.Tensor = file.get_slice(name)[0:1][0]
                return found
    return None


def _dequantised(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    import torch
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    # transformers 4.57 computes on the GPU wherever there is one.
    expert: torch.Tensor = convert_moe_packed_tensors(blocks[None], scales[None], dtype=torch.float32)[0].cpu()
    return expert
