"""Everything that can be wrong with a run, found on the driver before any worker is asked for."""

from __future__ import annotations

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from jobs.bases.base_names import BASE_NAMES
from jobs.nemo.folders import nemo_base
from tuneyard.chats.dataset import MAX_SHOWN_PROBLEMS, DatasetScan
from tuneyard.chats.messages import ChatExample
from tuneyard.checkpoints.manifest import weights_digest
from tuneyard.checkpoints.node_cache import cache_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity import ParityRow, ParitySample
from tuneyard.planning.disk_space import check_disk_space
from tuneyard.planning.nemo_parallelism import check_nemo_config
from tuneyard.storage.folder import is_uri
from tuneyard.training_data.row_checks import RowChecker
from tuneyard.training_data.token_store import ChatSource, TokenSettings, TokenStore, build_token_store


@dataclass(frozen=True, slots=True)
class CheckedDataset:
    """A dataset that was read to its end and found right. `notes` counts what is odd and no error."""

    rows: int
    fingerprint: str
    notes: Counter[str]


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a run trains on, validated and rendered."""

    train: CheckedDataset
    heldout: CheckedDataset | None
    train_tokens: TokenStore
    heldout_tokens: TokenStore | None
    codec_fingerprint: str
    base_digest: str
    parity_rows: tuple[ParityRow, ...]

    @property
    def dataset_fingerprint(self) -> str:
        """sha256 over both files' examples."""
        both = self.train.fingerprint + (self.heldout.fingerprint if self.heldout else "")
        return hashlib.sha256(both.encode()).hexdigest()

    def inputs_fingerprint(self, config: FinetuneConfig) -> str:
        """sha256 over all that decides the result: data, codec, base and training settings."""
        facts = {
            "dataset": self.dataset_fingerprint,
            "codec": self.codec_fingerprint,
            "base": self.base_digest,
            "training": config.training.model_dump(mode="json"),
            "nemo": config.nemo.model_dump(mode="json") if config.training.backend == "nemo" else None,
            "max_length": config.data.max_length,
            "batching": config.data.batching,
            "train_on_reasoning": config.data.train_on_reasoning,
            "num_workers": config.workers.num_workers,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def prepare_run(config: FinetuneConfig) -> PreparedRun:
    """Validates base, data and their fit, and renders the tokens into `<storage>/tokens`, or finds them there.

    Memory does not grow with the data. Raises DatasetError or CheckpointError with what, where and the fix.
    """
    base = _read_base_config(config.model.folder)
    _check_max_length(config, base)
    if config.training.backend == "nemo":
        check_nemo_config(config, base)
    is_imported = config.training.backend == "nemo" and nemo_base(config).exists()
    if not is_uri(config.run.storage):
        check_disk_space(config, base, base_is_imported=is_imported)
    codec = HarmonyCodec.from_checkpoint(config.model.folder, config.codec)
    checker, sample = RowChecker(), ParitySample()
    train = _check_dataset(config.data.train, config, checker, sample, is_heldout=False)
    heldout = None
    if config.data.heldout is not None:
        heldout = _check_dataset(config.data.heldout, config, checker, sample, is_heldout=True)
    return PreparedRun(
        train=train,
        heldout=heldout,
        train_tokens=_render(config.data.train, train, config, packed=config.data.batching == "packed"),
        heldout_tokens=_render(config.data.heldout, heldout, config, packed=False)
        if config.data.heldout is not None and heldout is not None
        else None,
        codec_fingerprint=codec.fingerprint,
        base_digest=weights_digest(config.model.folder),
        parity_rows=sample.freeze(codec),
    )


def _check_dataset(
    location: str, config: FinetuneConfig, checker: RowChecker, sample: ParitySample, *, is_heldout: bool
) -> CheckedDataset:
    scan = DatasetScan(location, config.data.format)
    notes: Counter[str] = Counter()
    leaked: list[str] = []
    for example in tqdm(scan, desc=f"checking {location}", unit=" chats", disable=not sys.stderr.isatty(), leave=False):
        sample.add(example)
        for problem in checker.problems(example, is_heldout=is_heldout):
            notes[problem.kind] += 1
            if problem.kind == "leakage" and len(leaked) < MAX_SHOWN_PROBLEMS:
                leaked.append(str(problem))
    if leaked:
        # A result on rows that were trained on would mean nothing.
        listed = "\n  ".join(leaked)
        raise DatasetError(f"{notes['leakage']} held-out row(s) are in the training data too:\n  {listed}")
    return CheckedDataset(scan.rows, scan.fingerprint, notes)


def _render(location: str, checked: CheckedDataset, config: FinetuneConfig, *, packed: bool) -> TokenStore:
    def read() -> Iterator[ChatExample]:
        scan = DatasetScan(location, config.data.format)
        yield from scan
        if scan.fingerprint != checked.fingerprint:
            raise DatasetError(f"{location}: changed while it was read. Start again when nobody writes to it.")

    data = config.data
    settings = TokenSettings(config.model.folder, config.codec, data.max_length, data.train_on_reasoning, packed)
    source = ChatSource(read, checked.rows, checked.fingerprint, location)
    # Workers read them as files: from an object store, out of their node's cache.
    root = cache_folder() if is_uri(config.run.storage) else config.run.folder
    store = build_token_store(source, settings, root / "tokens")
    if store.too_long and (data.too_long == "error" or not store.rows):
        raise DatasetError(_too_long_message(store, data.max_length))
    return store


def _too_long_message(store: TokenStore, max_length: int) -> str:
    count, more = store.too_long, store.too_long - len(store.too_long_named)
    shown = "\n  ".join([*store.too_long_named, *([f"… and {more} more"] if more else [])])
    return (
        f"{count} row{'s are' if count > 1 else ' is'} longer than data.max_length={max_length}:\n  {shown}\n"
        "Raise data.max_length, shorten the rows, or set data.too_long=drop to train without them."
    )


def _read_base_config(base: Path) -> dict[str, Any]:
    config_path = base / "config.json"
    if not config_path.is_file():
        fix = "It is a folder in Hugging Face's form, on the machine where the run's driver is."
        if base.name in BASE_NAMES:
            fix = f"Build it with: python -m jobs.build_base_model {base.name}"
        raise CheckpointError(f"model.base: {base} holds no config.json: no base checkpoint there. {fix}")
    try:
        found: dict[str, Any] = json.loads(config_path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise CheckpointError(f"model.base: {config_path} is not valid JSON: {e}") from e
    architectures = found.get("architectures")
    if architectures != ["GptOssForCausalLM"]:
        raise CheckpointError(
            f"model.base: {base} is {architectures}; Tuneyard finetunes GPT-OSS (['GptOssForCausalLM'])."
        )
    return found


def _check_max_length(config: FinetuneConfig, base: dict[str, Any]) -> None:
    limit = base["max_position_embeddings"]
    if config.data.max_length > limit:
        raise CheckpointError(
            f"data.max_length={config.data.max_length} is over the base's max_position_embeddings={limit}. "
            f"Set data.max_length={limit} or less."
        )
