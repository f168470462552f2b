"""Whether the expert matrices of a finetuned checkpoint have the same element order as those of its base.

Neither shapes nor loaders detect a wrong order. A finetuned expert still resembles the base's expert element by
element; one with gate and up halves side by side instead of interleaved, or transposed (GPT-OSS's down_proj is square),
resembles it only after rearranging.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

MIN_SIMILARITY = 0.7
"""Lowest cosine similarity that counts as the same order. LoRA and full finetuning stay above 0.9 and rounding to MXFP4
above 0.99; unrelated experts are near 0."""


def arrangement_problems(folder: Path, base: Path) -> Iterator[str]:
    """Yields one message for each wrongly arranged expert matrix.

    Compares the first expert of the first, the middle and the last layer. Raises CheckpointError if either folder has
    no such tensors.
    """
    layers = int(read_json(base / "config.json")["num_hidden_layers"])
    for layer in sorted({0, layers // 2, layers - 1}):
        for projection, rearrangements in (("gate_up_proj", _GATE_UP), ("down_proj", _DOWN)):
            name = f"model.layers.{layer}.mlp.experts.{projection}"
            tuned, original = (_load_first_expert(place, name) for place in (folder, base))
            if tuned.shape != original.shape:
                yield f"{name}: the shape is {list(tuned.shape)}, but the base has {list(original.shape)}."
                continue
            similarity = _similarity(tuned, original)
            if similarity >= MIN_SIMILARITY:
                continue
            for description, rearrange in rearrangements.items():
                candidate = rearrange(original)
                if candidate.shape == tuned.shape and _similarity(tuned, candidate) >= MIN_SIMILARITY:
                    yield f"{name}: {description}. No engine corrects this. Export the checkpoint again."
                    break
            else:
                yield (
                    f"{name}: its first expert is not like that of the base {base} (cosine {similarity:.2f}), nor like "
                    "a known rearrangement of it. Either they are different models or the tensor is damaged. Compare "
                    "with the right base (`tuneyard models check MODEL --base FOLDER`), or export it again."
                )


def _halves_side_by_side(matrix: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat((matrix[:, ::2], matrix[:, 1::2]), dim=1)


def _halves_exchanged(matrix: torch.Tensor) -> torch.Tensor:
    return matrix.reshape(matrix.shape[0], -1, 2).flip(-1).reshape(matrix.shape)


_GATE_UP: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gate and up lie side by side where GPT-OSS interleaves them": _halves_side_by_side,
    "gate and up are exchanged": _halves_exchanged,
    "it is transposed": lambda matrix: matrix.T,
}
_DOWN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {"it is transposed": lambda matrix: matrix.T}


def _similarity(one: torch.Tensor, other: torch.Tensor) -> float:
    """Cosine similarity of two matrices."""
    return float((one * other).sum() / (one.norm() * other.norm()).clamp_min(1e-30))


def _load_first_expert(folder: Path, name: str) -> torch.Tensor:
    """Returns the first expert of a tensor as fp32 [in, out] on the CPU. MXFP4 is dequantised."""
    expert = _load_first_slice(folder, name)
    if expert is not None:
        return expert.float()
    blocks, scales = (_load_first_slice(folder, f"{name}_{part}") for part in ("blocks", "scales"))
    if blocks is None or scales is None:
        raise CheckpointError(
            f"{folder} has neither {name} nor its MXFP4 blocks and scales. Copy or export the checkpoint again."
        )
    return _dequantise(blocks, scales)


def _load_first_slice(folder: Path, name: str) -> torch.Tensor | None:
    """Returns the first slice of a tensor, whichever file holds it; None if no file does."""
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in set(file.keys()):
                first: torch.Tensor = file.get_slice(name)[0:1][0]
                return first
    return None


def _dequantise(blocks: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    import torch
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    # transformers 4.57 computes on the GPU wherever there is one.
    expert: torch.Tensor = convert_moe_packed_tensors(blocks[None], scales[None], dtype=torch.float32)[0].cpu()
    return expert
