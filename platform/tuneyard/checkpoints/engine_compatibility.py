"""Whether a valid checkpoint can also be served correctly by a given engine."""

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

ENGINES = ("transformers", "tensorrt_llm")


def check_for_engine(folder: Path, manifest: CheckpointManifest, engine: str, base: Path | None = None) -> list[str]:
    """Returns one line for each property that was checked beyond the manifest, in words for the user.

    `base` is the folder of the checkpoint that this one was finetuned from; None means the folder that the manifest
    names, if it exists. Raises one CheckpointError that lists every problem.
    """
    problems: list[str] = []
    checked: list[str] = []
    if engine == "tensorrt_llm":
        problems += tensorrt_llm_problems(read_json(folder / "config.json"), manifest.tensors)
        checked.append("TensorRT-LLM reads this config and these dtypes correctly")
    base = base or _base_of(manifest)
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


def _base_of(manifest: CheckpointManifest) -> Path | None:
    """The folder of the base that the run's config names; None if it does not exist on this machine."""
    model: Any = manifest.config.get("model")
    base = Path(model["base"]) if isinstance(model, dict) and model.get("base") else None
    return base if base is not None and (base / "config.json").is_file() else None
