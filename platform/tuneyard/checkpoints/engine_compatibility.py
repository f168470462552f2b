"""Whether a checkpoint that is what its manifest says is also fit for the engine that must serve it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuneyard.checkpoints.layout.expert_arrangement import arrangement_problems
from tuneyard.checkpoints.layout.gpt_oss import read_json
from tuneyard.checkpoints.layout.tensorrt_llm import tensorrt_llm_problems
from tuneyard.checkpoints.manifest import CheckpointManifest
from tuneyard.core.errors import CheckpointError

ENGINES = ("transformers", "tensorrt_llm")


def check_for_engine(folder: Path, manifest: CheckpointManifest, engine: str, base: Path | None = None) -> list[str]:
    """What was proved beyond the manifest, in words. Raises CheckpointError that lists every problem.

    `base`: the checkpoint that it was tuned from; None: where the manifest says, if that is there.
    """
    problems: list[str] = []
    proved: list[str] = []
    if engine == "tensorrt_llm":
        problems += tensorrt_llm_problems(read_json(folder / "config.json"), manifest.tensors)
        proved.append("config and dtypes are such as TensorRT-LLM reads rightly")
    base = base or _base_of(manifest)
    if base is not None:
        problems += arrangement_problems(folder, base)
        proved.append(f"experts are arranged as those of {base}")
    elif manifest.kind == "finetuned":
        proved.append("NOT compared: the experts' arrangement, for the base is not here (--base FOLDER)")
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise CheckpointError(f"{folder} is not fit for the engine {engine}: {count}\n  " + "\n  ".join(problems))
    return proved


def _base_of(manifest: CheckpointManifest) -> Path | None:
    """Where the run's config says that the base lies, if it still does."""
    model: Any = manifest.config.get("model")
    found = Path(model["base"]) if isinstance(model, dict) and model.get("base") else None
    return found if found is not None and (found / "config.json").is_file() else None
