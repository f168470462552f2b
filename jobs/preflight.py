"""Everything that can be wrong with a run, found on the driver before any worker is asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from tuneyard.checkpoint import weights_digest
from tuneyard.dataset import ChatDataset, load_chat_dataset
from tuneyard.errors import CheckpointError, DatasetError
from tuneyard.finetune_config import FinetuneConfig
from tuneyard.harmony import HarmonyCodec
from tuneyard.parity import ParityRow, freeze_parity_rows
from tuneyard.token_table import TokenTable, build_token_table, pack_token_table


@dataclass(frozen=True, slots=True)
class PreparedRun:
    """What a run trains on, validated and rendered."""

    train: ChatDataset
    heldout: ChatDataset | None
    train_tokens: TokenTable
    heldout_tokens: TokenTable | None
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
            "max_length": config.data.max_length,
            "packing": packs(config),
            "train_on_reasoning": config.data.train_on_reasoning,
            "num_workers": config.workers.num_workers,
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def prepare_run(config: FinetuneConfig) -> PreparedRun:
    """Validates base, data and their fit, and renders the tokens.

    Raises DatasetError or CheckpointError with what, where and the fix.
    """
    _check_base(config.model.base)
    train = load_chat_dataset(config.data.train, config.data.format)
    heldout = load_chat_dataset(config.data.heldout, config.data.format) if config.data.heldout else None
    if heldout is not None:
        _check_leakage(train, heldout)
    codec = HarmonyCodec.from_checkpoint(config.model.base, config.codec)
    _check_max_length(config)
    limits = (config.data.max_length, config.data.too_long, config.data.train_on_reasoning)
    train_tokens = build_token_table(train.examples, codec, *limits)
    return PreparedRun(
        train=train,
        heldout=heldout,
        train_tokens=pack_token_table(train_tokens, config.data.max_length) if packs(config) else train_tokens,
        heldout_tokens=build_token_table(heldout.examples, codec, *limits) if heldout else None,
        codec_fingerprint=codec.fingerprint,
        base_digest=weights_digest(config.model.base),
        parity_rows=freeze_parity_rows((heldout or train).examples, codec),
    )


def packs(config: FinetuneConfig) -> bool:
    """Whether rows are packed: as the config says, or else where padding costs most, on GPUs."""
    return config.workers.use_gpu if config.data.packing is None else config.data.packing


def _check_base(base: Path) -> None:
    config_path = base / "config.json"
    if not config_path.is_file():
        raise CheckpointError(
            f"model.base: {base} holds no config.json: no base checkpoint there. "
            "Build the demo's with: python -m jobs.build_base_model smol-oss-135m"
        )
    try:
        architectures = json.loads(config_path.read_text(encoding="utf-8")).get("architectures")
    except ValueError as e:
        raise CheckpointError(f"model.base: {config_path} is not valid JSON: {e}") from e
    if architectures != ["GptOssForCausalLM"]:
        raise CheckpointError(
            f"model.base: {base} is {architectures}; Tuneyard finetunes GPT-OSS (['GptOssForCausalLM'])."
        )


def _check_max_length(config: FinetuneConfig) -> None:
    limit = json.loads((config.model.base / "config.json").read_text(encoding="utf-8"))["max_position_embeddings"]
    if config.data.max_length > limit:
        raise CheckpointError(
            f"data.max_length={config.data.max_length} is over the base's max_position_embeddings={limit}. "
            f"Set data.max_length={limit} or less."
        )


def _check_leakage(train: ChatDataset, heldout: ChatDataset) -> None:
    """Held-out rows must not be trained on: a result on them would mean nothing."""
    trained = {example.messages: example.source for example in train.examples}
    leaked = [f"{e.source} = {trained[e.messages]}" for e in heldout.examples if e.messages in trained]
    if leaked:
        raise DatasetError(
            f"{len(leaked)} held-out row(s) are in the training file too: {', '.join(leaked[:5])}. "
            "Remove them from one of the files."
        )
