"""What all importers share: model config, dtype and tokenizer of the source folder."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from nemo.collections.common.tokenizers.huggingface.auto_tokenizer import AutoTokenizer
from nemo.collections.llm import GPTOSSConfig

import jobs.nemo.setup.patched
from jobs.nemo.connectors.model_config import model_config
from tuneyard.core.errors import CheckpointError


class SourceImporter:
    """Mixin for NeMo's importers, to be named before NeMo's class. `str(self)` is the source folder."""

    def source_config(self) -> dict[str, Any]:
        """The source's config.json with Hugging Face's field names."""
        raise NotImplementedError

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype of the imported weights. OpenAI's original format is bf16 beside its MXFP4 experts."""
        return torch.bfloat16

    @cached_property
    def config(self) -> GPTOSSConfig:
        return model_config(self.source_config(), bf16=self.dtype == torch.bfloat16, params_dtype=self.dtype)

    @cached_property
    def tokenizer(self) -> AutoTokenizer:
        """The source's tokenizer, in a temporary folder. Raises CheckpointError if the source has no tokenizer.json."""
        source = Path(str(self))
        if not (source / "tokenizer.json").is_file():
            raise CheckpointError(
                f"{self} contains no tokenizer.json. Copy it there from the model's Hugging Face checkpoint."
            )
        # NeMo copies the tokenizer's folder into the checkpoint: from the source folder it would copy the weights too.
        folder = Path(tempfile.mkdtemp(prefix="tuneyard-tokenizer-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for path in source.glob("*token*.json"):
            shutil.copy(path, folder)
        return AutoTokenizer(str(folder), trust_remote_code=False)
