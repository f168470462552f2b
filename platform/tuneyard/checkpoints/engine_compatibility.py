"""Whether a valid checkpoint can also be served correctly: by a given engine, with the prompts of its training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneyard.checkpoints.layout.expert_arrangement import arrangement_problems
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.tensorrt_llm import tensorrt_llm_problems
from tuneyard.core.errors import CheckpointError
from tuneyard.core.wording import count_of, listed

if TYPE_CHECKING:
    from tuneyard.checkpoints.manifest import CheckpointManifest
    from tuneyard.harmony.parity_rows import ParityRow

ENGINES = ("transformers", "tensorrt_llm")
"""The engines whose checks need no other package."""

MAX_PATH_CHARACTERS = 1024

ALL_ENGINES = ("transformers", "llama_cpp", "tensorrt_llm")


def check_for_engine(folder: Path, manifest: CheckpointManifest, engine: str, base: Path | None = None) -> list[str]:
    """Returns one line for each property that was checked beyond the manifest, in words for the user.

    `base` is the folder of the checkpoint that this one was finetuned from; None means the folder that the manifest
    names, if it exists. Raises one CheckpointError that lists every problem; MissingDependencyError for llama_cpp if
    the package gguf is not installed.
    """
    problems: list[str] = []
    checked: list[str] = []
    if engine == "tensorrt_llm":
        problems += tensorrt_llm_problems(read_json(folder / "config.json"), manifest.tensors)
        checked.append("TensorRT-LLM reads this config and these dtypes correctly")
    if engine == "llama_cpp":
        _check_for_llama_cpp(folder, problems, checked)
    base = base or find_base(manifest)
    if base is not None:
        problems += arrangement_problems(folder, base)
        checked.append(f"experts are arranged as those of {base}")
    elif manifest.kind == "finetuned":
        checked.append("NOT compared: the experts' arrangement, because the base is not here (--base FOLDER)")
    if problems:
        raise CheckpointError(
            f"{folder} cannot be served by the engine {engine}: "
            f"{count_of(len(problems), 'problem')}\n{listed(problems)}"
        )
    return checked


def _check_for_llama_cpp(folder: Path, problems: list[str], checked: list[str]) -> None:
    """Adds what `engine.llama_cpp.weights` can be, or why llama.cpp cannot run the checkpoint in any form."""
    from tuneyard.checkpoints.gguf.gguf_types import GgufType
    from tuneyard.checkpoints.gguf.writing import gguf_size

    sizes: list[str] = []
    reasons: list[str] = []
    for kind in GgufType:
        try:
            sizes.append(f"{kind} ({gguf_size(folder, kind) / 2**30:.2f} GiB)")
        except CheckpointError as e:
            reasons.append(str(e))
    if sizes:
        checked.append(f"llama.cpp runs it with weights: {', '.join(sizes)}")
    else:
        # Of f32, which has the fewest conditions: those are the checkpoint's own.
        problems.append(reasons[-1])


def check_codec(folder: Path, manifest: CheckpointManifest, model_id: str) -> tuple[ParityRow, ...]:
    """Renders the manifest's prompts here and returns them. The manifest must name a codec.

    Raises CheckpointError if this installation's codec is not that of the training, and ParityError if a prompt renders
    to other tokens. `model_id` names the model in both.
    """
    # Here, because `tuneyard --help` imports this module and must not load tokenizers.
    from tuneyard.harmony.codec import HarmonyCodec
    from tuneyard.harmony.parity import check_parity, render_with
    from tuneyard.harmony.parity_rows import parse_parity_rows

    assert manifest.codec is not None
    codec = HarmonyCodec.from_checkpoint(folder, manifest.codec.codec_settings())
    if codec.fingerprint != manifest.codec.fingerprint:
        raise CheckpointError(
            f"{model_id}: this installation renders prompts differently from the training: its codec fingerprint is "
            f"{codec.fingerprint[:12]}, the manifest's is {manifest.codec.fingerprint[:12]}. Install the software "
            f"versions of the manifest: {manifest.software}."
        )
    rows = parse_parity_rows(manifest.parity)
    check_parity(rows, render_with(codec), codec, model_id)
    return rows


def find_base(manifest: CheckpointManifest) -> Path | None:
    """The folder of the base that the run's config names; None if it does not exist on this machine."""
    model: Any = manifest.config.get("model")
    base = model.get("base") if isinstance(model, dict) else None
    if not isinstance(base, str) or not base or len(base) > MAX_PATH_CHARACTERS:
        return None
    return Path(base) if (Path(base) / "config.json").is_file() else None
