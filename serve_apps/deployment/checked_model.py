"""check_model: resolves and proves a model's checkpoint before anything is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tuneyard.checkpoints.engine_compatibility import check_codec, check_for_engine
from tuneyard.checkpoints.gguf.writing import gguf_size
from tuneyard.checkpoints.layout.gpt_oss import is_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.manifest import CheckpointManifest, read_manifest
from tuneyard.checkpoints.node_cache import local_folder
from tuneyard.checkpoints.references import locate_checkpoint
from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.configs.serve import ModelAppConfig
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.core.wording import listed
from tuneyard.harmony.parity_rows import ParityRow
from tuneyard.harmony.settings import CodecSettings
from tuneyard.planning.serve_plan import plan_engine
from tuneyard.storage.location import is_uri


@dataclass(frozen=True, slots=True)
class CheckedModel:
    """A model whose checkpoint and codec were checked."""

    config: ModelAppConfig
    checkpoint: str
    """Location of the checkpoint: a folder or a URI."""
    folder: Path
    """Local folder with the checkpoint's config and tokenizer."""
    version: str
    """`name/version`, from the registry or else from the manifest."""
    codec: CodecSettings
    parity_rows: tuple[ParityRow, ...] = ()
    """Prompts of the training with their tokens, from the manifest."""


def check_model(config: ModelAppConfig) -> CheckedModel:
    """Returns the model with its proved checkpoint and the codec that it must be served with.

    Raises RegistryError for an unknown reference, CheckpointError for a checkpoint that is not what its manifest says
    or that was trained with another codec, ParityError if the training's prompts render to other tokens here, and
    ConfigError if the model does not fit the engine's GPUs; MissingDependencyError if llama.cpp's file needs a package
    that is not installed.
    """
    location, registered_version = locate_checkpoint(config.checkpoint)
    # From an object store, each node verifies every byte when it fetches the checkpoint. Only TensorRT-LLM's checks
    # need the weights on this machine.
    folder = local_folder(location, weights=config.engine.tensorrt_llm is not None)
    check_safety(folder)
    manifest = read_manifest(folder) if is_uri(location) else validate_hf_checkpoint(folder)
    version = registered_version or f"{manifest.name}/{manifest.version}"
    _check_engine(config, folder, manifest)
    if manifest.codec is None:
        return CheckedModel(config, location, folder, version, config.codec or CodecSettings())
    trained = manifest.codec.codec_settings()
    if config.codec is not None and config.codec != trained:
        raise CheckpointError(
            f"{config.model_id}: the config's codec {config.codec.model_dump()} is not the one that the checkpoint was "
            f"trained with, {trained.model_dump()}. Remove `codec` from the config; the manifest provides it."
        )
    rows = check_codec(folder, manifest, config.model_id)
    return CheckedModel(config, location, folder, version, trained, rows)


def _check_engine(config: ModelAppConfig, folder: Path, manifest: CheckpointManifest) -> None:
    """Checks that TensorRT-LLM or llama.cpp can load the checkpoint, and that the model fits the GPUs.

    The transformers engine loads every valid checkpoint. For llama.cpp the weights must be on this machine, or only the
    replica finds out.
    """
    if config.engine.llama_cpp is not None and any(folder.glob("*.safetensors")):
        gguf_size(folder, config.engine.llama_cpp.weights)
    engine = config.engine.tensorrt_llm
    if engine is None:
        return
    check_for_engine(folder, manifest, config.engine.engine)
    plan = plan_engine(engine, read_json(folder / "config.json"), is_mxfp4=is_mxfp4(folder))
    if plan.problems:
        raise ConfigError(f"{config.model_id} on {plan.gpus} × {plan.gpu.name}:\n{listed(plan.problems)}")
