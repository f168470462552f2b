"""What a rehearsal checks of the run itself, with its real base, data and storage, before there is a small model."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from jobs.bases.o200k_tokenizer import build_o200k_tokenizer
from jobs.bases.published_form import published_config, write_published_form
from jobs.nemo.setup.import_memory import available_bytes
from jobs.rehearsal.layout import RehearsedLayout, run_parallelism
from jobs.rehearsal.report import NotRehearsed
from jobs.runs.preflight import (
    check_disk,
    check_sizes,
    check_storage_name,
    complete_run,
    plan_main_memory,
    plan_memory,
    read_base,
)
from jobs.runs.prepared_run import PreparedData
from jobs.runs.run_record import RECORD_NAME, RunFolder
from jobs.workers.gpu_type import with_gpu_type
from jobs.workers.local_base import with_local_base
from tuneyard.checkpoints.layout.gpt_oss import expected_tensors
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.references import locate_checkpoint
from tuneyard.checkpoints.validation import INDEX_NAME
from tuneyard.configs.experiment_tracking import check_wandb
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.followup_deployment import load_deployment
from tuneyard.core.errors import CheckpointError, ConfigError, TuneyardError
from tuneyard.core.wording import count_of, first_of
from tuneyard.doctor.cluster_doctor import check_object_store
from tuneyard.doctor.local_node import is_writable
from tuneyard.doctor.shared_paths import SHARED_STORAGE, check_writable_here
from tuneyard.planning.local_gpus import describe_gpus, known_local_gpu
from tuneyard.planning.published_models import PUBLISHED
from tuneyard.planning.training.nemo_memory_checks import memory_in_words
from tuneyard.planning.training.node_memory import check_node_memory, describe_host
from tuneyard.storage.folder import StorageFolder
from tuneyard.storage.location import is_uri

NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders that every node has for itself."""

LOCAL_FILE_SYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs")
"""File systems that only one node sees."""


@dataclass(frozen=True, slots=True)
class RunBase:
    """The base of the run as far as it is on this machine.

    `config` is the content of its config.json, `run` the run's config with a folder that has at least its config and
    tokenizer.
    """

    run: FinetuneConfig
    config: dict[str, Any]
    is_adopted: bool


def runs_elsewhere(config: FinetuneConfig) -> bool:
    """Whether the run needs a GPU and this machine has none, so that its folders may be on other machines."""
    return config.workers.use_gpu and not describe_gpus()


def open_base(config: FinetuneConfig) -> RunBase:
    """The run's base. Raises CheckpointError for one that is missing or broken.

    Raises NotRehearsed if it is missing and the run is for other machines: stand_in_base is then the next best.
    """
    missing = not is_uri(config.model.base) and not (Path(config.model.base) / "config.json").is_file()
    if missing and runs_elsewhere(config):
        raise NotRehearsed(
            f"model.base: {config.model.base} is not on this machine, which has no GPU, so the run is taken to be for "
            "other machines. Rehearsed with the published sizes and the published vocabulary. To check the base too, "
            "rehearse where it is; its config.json and tokenizer.json are enough."
        )
    local = with_local_base(config, weights=False)
    base = read_base(local)
    expected_tensors(base)
    if not is_uri(config.model.base) and not runs_elsewhere(config):
        _check_weights(local.model.folder)
    return RunBase(local, base, is_adopted=(local.model.folder / "manifest.json").is_file())


def _check_weights(folder: Path) -> None:
    """Raises CheckpointError if files of the base's weights are missing. Reads none of them: that takes minutes."""
    files = {path.name for path in folder.glob("*.safetensors")}
    index = folder / INDEX_NAME
    named = set(read_json(index).get("weight_map", {}).values()) if index.is_file() else {"model.safetensors"}
    if missing := sorted(named - files):
        raise CheckpointError(
            f"model.base: {folder} lacks {first_of(missing)}, so its download is not complete. Download it again."
        )


def stand_in_base(config: FinetuneConfig, folder: Path) -> RunBase:
    """Config and tokenizer of a published model, as `model.base`, in the new folder: for token counts and sizes."""
    size = "120b" if config.training.backend == "nemo" and "120b" in config.nemo.recipe else "20b"
    tokenizer = build_o200k_tokenizer()
    sizes = {"num_experts_per_tok": 4, "sliding_window": 128} | PUBLISHED[size]
    base = published_config(sizes, tokenizer) | {"quantization_config": {"quant_method": "mxfp4"}}
    folder.mkdir(parents=True)
    write_published_form(folder, base, tokenizer)
    run = config.model_copy(update={"model": config.model.model_copy(update={"base": str(folder)})})
    return RunBase(run, base, is_adopted=True)


def check_layout(base: RunBase) -> None:
    """Raises ConfigError or CheckpointError if the run's layout, batch or length does not fit its model."""
    check_sizes(base.run, base.config)


def describe_layout(config: FinetuneConfig) -> str:
    """The run's workers and layout, in words."""
    return str(RehearsedLayout(config.workers.num_workers, run_parallelism(config), ""))


def describe_data(data: PreparedData, config: FinetuneConfig) -> str:
    """Rows and tokens of the checked data, in words."""
    heldout = f", {data.heldout.rows:,} held out" if data.heldout else ""
    tokens = data.train_tokens
    left_out = f"left out {count_of(tokens.too_long, 'row')}" if tokens.too_long else "none"
    return (
        f"{count_of(data.train.rows, 'chat')}{heldout}; {count_of(tokens.tokens, 'token')}; {left_out} over "
        f"data.max_length={config.data.max_length}"
    )


def check_storage(config: FinetuneConfig, base: RunBase) -> str:
    """Checks that the run can write its checkpoints, and that its nodes can share them; returns what was found.

    Raises ClusterError, ConfigError, StorageError or StorageFullError; NotRehearsed if only other machines have it.
    """
    location = config.run.storage
    if is_uri(location):
        finding = check_object_store(location)
        if finding.severity == "error":
            raise ConfigError(f"run.storage: {finding.what.removesuffix('.')}. {finding.fix}")
        return finding.what
    try:
        check_storage_name(config)
    except ConfigError as e:
        raise _unless_elsewhere(config, e) from e
    folder, elsewhere = Path(location), runs_elsewhere(config)
    _check_shared(config, folder)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if existing == folder:
        check_writable_here(location, "runs", config.run.name)
        check_writable_here(location, "models", config.run.model_name)
    elif not existing.is_dir() or not is_writable(existing):
        problem = f"run.storage: {folder} does not exist, and it cannot be made in {existing}"
        if elsewhere:
            raise NotRehearsed(f"{problem} on this machine. Rehearse where it is mounted to check it too.")
        raise ConfigError(f"{problem}. Make it, or set run.storage to a folder that this user can write.")
    if elsewhere:
        return f"{folder} can be written here; its free space counts on the machines of the run"
    check_disk(base.run, base.config)
    return f"{folder} can be written and has room for the run"


def _check_shared(config: FinetuneConfig, folder: Path) -> None:
    """Raises ConfigError for a folder that each of several nodes has for itself."""
    nodes = math.ceil(config.workers.num_workers / config.nemo.gpus_per_node)
    if config.training.backend != "nemo" or nodes == 1:
        return
    places = {*NODE_LOCAL, tempfile.gettempdir()}
    if any(folder.is_relative_to(place) for place in places) and _file_system(folder) in LOCAL_FILE_SYSTEMS:
        raise ConfigError(
            f"run.storage: {folder} is a folder that every node has for itself, and this run needs {nodes} nodes "
            f"({config.workers.num_workers} workers, nemo.gpus_per_node={config.nemo.gpus_per_node}) that read each "
            f"other's checkpoints. {SHARED_STORAGE}"
        )


def _file_system(folder: Path) -> str:
    """The type of the file system that holds the folder, by Linux's name."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "overlay"


def check_gpu_memory(base: RunBase, data: PreparedData) -> str:
    """What a run with `workers.use_gpu` takes on a GPU, in words. Raises ConfigError if the run does not fit."""
    memory = plan_memory(with_gpu_type(base.run, known_local_gpu()), base.config, data)
    assert memory is not None
    return memory_in_words(memory)


def check_tracking(config: FinetuneConfig) -> None:
    """Raises what check_wandb raises; NotRehearsed instead if the run is for other machines."""
    try:
        check_wandb("wandb", os.environ)
    except TuneyardError as e:
        raise _unless_elsewhere(config, e) from e


def check_deployment(config: FinetuneConfig) -> str:
    """Checks that the other models of the deployment that `deploy` names exist, and returns how many there are.

    Raises ConfigError if one does not; NotRehearsed instead if the run is for other machines. The run would say so only
    when it has trained.
    """
    own = f"{config.run.model_name}@newest"
    others = [model.checkpoint for model in load_deployment(config).models if model.checkpoint != own]
    for reference in others:
        try:
            _check_exists(reference)
        except TuneyardError as e:
            problem = ConfigError(f"deploy: {config.deploy} also serves {reference}, and it cannot be found: {e}")
            raise _unless_elsewhere(config, problem) from e
    return f"{own} and {count_of(len(others), 'other model')}" if others else own


def _check_exists(reference: str) -> None:
    location = locate_checkpoint(reference)[0]
    if StorageFolder.open(location).size_of("config.json") is None:
        raise CheckpointError(f"{location} holds no config.json.")


def check_main_memory(config: FinetuneConfig, base: RunBase, data: PreparedData) -> str:
    """What the run takes of main memory, in words. Raises ClusterError if this machine has less for its workers."""
    memory = plan_main_memory(base.run, base.config, data)
    resources = {
        "CPU": float(len(os.sched_getaffinity(0))),
        "GPU": float(len(describe_gpus())),
        "memory": float(available_bytes()),
    }
    check_node_memory(config.workers, memory, [resources])
    return describe_host(memory)


def has_earlier_run(config: FinetuneConfig) -> bool:
    """Whether there is a run of this name, which the run would resume."""
    return config.run.resume and RunFolder(config).storage.size_of(RECORD_NAME) is not None


def check_earlier_run(config: FinetuneConfig, base: RunBase, data: PreparedData) -> str:
    """What the run would do with the run of its name that exists. Raises TrainingError if it cannot resume it.

    Raises NotRehearsed if the weights of the base, which must be the same, are not on this machine.
    """
    if not list(base.run.model.folder.glob("*.safetensors")):
        raise NotRehearsed(
            f"{RunFolder(config).location} holds a run of this name. Whether it can be resumed depends on the weights "
            "of the base, which are not on this machine."
        )
    record = RunFolder(config).find(complete_run(base.run, base.config, data).inputs_fingerprint(config))
    if record is not None and record.version is not None:
        return (
            f"{config.run.name!r} is done already, as {config.run.model_name}/{record.version}, so the run would train "
            "nothing. To train again, choose another run.name"
        )
    return f"{config.run.name!r} exists with the same inputs, and would be resumed"


def _unless_elsewhere(config: FinetuneConfig, problem: TuneyardError) -> Exception:
    """The problem, or NotRehearsed if it is one of this machine and the run is for others."""
    return NotRehearsed(f"{problem} The run is taken to be for other machines.") if runs_elsewhere(config) else problem
