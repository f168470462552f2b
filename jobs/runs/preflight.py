"""Preflight: finds on the driver everything that is wrong with a run, before workers are requested."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from jobs.bases.names import BASE_NAMES
from jobs.nemo.checkpoint_folders import nemo_base
from jobs.runs.dataset_preparation import check_dataset, render_tokens
from jobs.runs.prepared_run import PreparedData, PreparedRun
from jobs.workers.gpu_type import with_gpu_type
from tuneyard.api.wire.chat_request import RenderRequest
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.layout.safetensors_header import read_header
from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.checkpoints.tensor_table import weights_digest
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, ConfigError, DatasetError, RequestError
from tuneyard.core.wording import count_of
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity_rows import ParityRow, ParitySample
from tuneyard.planning.disk_space import check_disk_space
from tuneyard.planning.nemo_checks import check_nemo_config
from tuneyard.planning.training.batch_shapes import largest_batch
from tuneyard.planning.training.host_memory import HostMemory, host_memory
from tuneyard.planning.training.memory_checks import check_training_memory
from tuneyard.planning.training.memory_plan import BatchShape, TrainingMemory
from tuneyard.planning.training.nemo_memory import NemoMemory
from tuneyard.planning.training.nemo_memory_checks import check_nemo_memory
from tuneyard.storage.location import is_uri
from tuneyard.training_data.row_checks import RowChecker
from tuneyard.training_data.token_store import open_token_rows

VARIABLE = re.compile(r"\$\{?(\w+)")
"""An environment variable in a path. Those that are set have been expanded when the config was loaded."""


def prepare_run(config: FinetuneConfig, gpu_type: str | None = None) -> PreparedRun:
    """Validates the base, the data and the resources they need, and renders the tokens.

    `gpu_type` is that of the workers' GPUs where `workers.accelerator_type` is null, if it is known already.
    `model.base` must be a local folder (jobs.workers.local_base). Tokens that an earlier call rendered are used again.
    Memory does not grow with the data. Raises ConfigError, CheckpointError, DatasetError or StorageFullError, each
    with what is wrong, where, and the fix.
    """
    base = read_base(config)
    check_sizes(config, base)
    check_storage_name(config)
    check_disk(config, base)
    return complete_run(config, base, prepare_data(config), gpu_type)


def complete_run(
    config: FinetuneConfig, base: dict[str, Any], data: PreparedData, gpu_type: str | None = None
) -> PreparedRun:
    """The run with its checked data: plans its memory, and reads the digest of its base.

    `base` is the content of the base's config.json. See prepare_run.
    """
    return PreparedRun(
        **{field.name: getattr(data, field.name) for field in fields(data)},
        base_digest=weights_digest(config.model.folder),
        memory=plan_memory(with_gpu_type(config, gpu_type), base, data),
        host_memory=plan_main_memory(config, base, data),
    )


def read_base(config: FinetuneConfig) -> dict[str, Any]:
    """The content of the base's config.json. Raises CheckpointError if the base is no GPT-OSS, or not safe to load."""
    check_safety(config.model.folder)
    base = _read_base_config(config.model.folder)
    # Whether the weights are those of the manifest is checked where they are loaded; this reads their headers.
    for path in sorted(config.model.folder.glob("*.safetensors")):
        with path.open("rb") as file:
            read_header(path, file)
    expected_tensors(base)
    return base


def check_sizes(config: FinetuneConfig, base: dict[str, Any]) -> None:
    """Raises CheckpointError or ConfigError if a model with this config.json cannot be trained with the config."""
    _check_max_length(config, base)
    if config.training.backend == "nemo":
        check_nemo_config(config, base)


def check_storage_name(config: FinetuneConfig) -> None:
    """Raises ConfigError if run.storage still has a variable in it: a folder named after the variable would be made."""
    location = config.run.storage
    variable = VARIABLE.search(location)
    if variable is not None and not is_uri(location) and not Path(location).exists():
        raise ConfigError(
            f"run.storage: {location} names the environment variable {variable[1]}, which is not set. Set it where "
            "the run's driver starts, or write the folder's path."
        )


def check_disk(config: FinetuneConfig, base: dict[str, Any]) -> None:
    """Raises StorageFullError if run.storage is a folder with too little room for the run."""
    if not is_uri(config.run.storage):
        check_disk_space(config, base, base_is_imported=_is_imported(config))


def _is_imported(config: FinetuneConfig) -> bool:
    """Whether the base already exists in NeMo's format."""
    return config.training.backend == "nemo" and nemo_base(config).exists()


def prepare_data(config: FinetuneConfig) -> PreparedData:
    """Validates the data and renders its tokens. Reads the base's tokenizer only. Raises DatasetError."""
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    checker, sample = RowChecker(), ParitySample()
    train = check_dataset(config.data.train, config, checker, sample, is_heldout=False)
    heldout = None
    if config.data.heldout is not None:
        heldout = check_dataset(config.data.heldout, config, checker, sample, is_heldout=True)
    train_tokens = render_tokens(config.data.train, train, config, packed=config.data.batching == "packed")
    return PreparedData(
        train=train,
        heldout=heldout,
        train_tokens=train_tokens,
        heldout_tokens=render_tokens(config.data.heldout, heldout, config, packed=False)
        if config.data.heldout is not None and heldout is not None
        else None,
        codec_fingerprint=codec.fingerprint,
        parity_rows=freeze_parity_rows(sample, codec, keeps_words=config.parity.rows == "real"),
    )


def plan_memory(config: FinetuneConfig, base: dict[str, Any], data: PreparedData) -> TrainingMemory | NemoMemory | None:
    """GPU memory of a worker; None for CPUs. Raises ConfigError if a batch does not fit."""
    if not config.workers.use_gpu:
        return None
    batches = _largest_batches(config, data)
    if config.training.backend == "nemo":
        return check_nemo_memory(config, base, batches[0])
    return check_training_memory(config, base, *batches)


def plan_main_memory(config: FinetuneConfig, base: dict[str, Any], data: PreparedData) -> HostMemory:
    """Main memory of the workers and of the export."""
    return host_memory(config, base, *_largest_batches(config, data), base_is_imported=_is_imported(config))


def _largest_batches(config: FinetuneConfig, data: PreparedData) -> tuple[BatchShape, BatchShape | None]:
    """The largest batches of the training and of the held-out rows."""
    rows, are_pairs = config.training.batch_size_per_worker, config.training.objective == "dpo"
    train, heldout = (
        largest_batch(open_token_rows(store.path), rows, are_pairs=are_pairs) if store is not None else None
        for store in (data.train_tokens, data.heldout_tokens)
    )
    assert train is not None
    return train, heldout


def freeze_parity_rows(sample: ParitySample, codec: HarmonyCodec, *, keeps_words: bool) -> tuple[ParityRow, ...]:
    """The prompts for the parity gate. Raises DatasetError if the served API would refuse one of them."""
    rows = sample.freeze(codec, keeps_words=keeps_words)
    for row in rows:
        try:
            RenderRequest.parse(row.request_body("model"))
        except RequestError as e:
            raise DatasetError(
                f"The served API would refuse a prompt of this data: {e} The prompt has "
                f"{count_of(len(row.messages), 'message')} and {count_of(len(row.tools), 'tool')}. Correct the rows "
                "of this shape."
            ) from e
    return rows


def _read_base_config(base: Path) -> dict[str, Any]:
    """The base's config.json. Raises CheckpointError when the folder is not a GPT-OSS checkpoint."""
    config_path = base / "config.json"
    if not config_path.is_file():
        fix = "Set it to a checkpoint folder in Hugging Face format on the machine where the run's driver is."
        if base.name in BASE_NAMES:
            fix = f"Build it with: python -m jobs.build_base_model {base.name}"
        raise CheckpointError(f"model.base: {base} holds no config.json, so it is not a base checkpoint. {fix}")
    config = read_json(config_path)
    architectures = config.get("architectures")
    if architectures != ["GptOssForCausalLM"]:
        raise CheckpointError(
            f"model.base: {base} is {architectures}, but Tuneyard finetunes GPT-OSS only (['GptOssForCausalLM'])."
        )
    return config


def _check_max_length(config: FinetuneConfig, base: dict[str, Any]) -> None:
    limit = base.get("max_position_embeddings", 0)
    if config.data.max_length > limit:
        raise CheckpointError(
            f"data.max_length={config.data.max_length} is over the base's max_position_embeddings={limit}. "
            f"Set data.max_length={limit} or less."
        )
