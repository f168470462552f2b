"""Checks of a finetuning config between its sections: storage locations and the backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import ConfigError


def config(storage: str, **sections: object) -> FinetuneConfig:
    run = {"name": "r", "model_name": "m", "storage": storage}
    return FinetuneConfig.model_validate({"run": run, "model": {"base": "b"}, "data": {"train": "t"}, **sections})


def test_a_password_in_a_uri_is_refused() -> None:
    with pytest.raises(ValueError, match="holds a password"):
        config("s3://key:secret@bucket/x")


def test_nemo_needs_a_folder() -> None:
    with pytest.raises(ValueError, match="give a mounted one that all nodes see"):
        config("s3://bucket/x", training={"backend": "nemo"})


def test_storage_as_a_folder(tmp_path: Path) -> None:
    assert config(f"file://{tmp_path}").run.folder == tmp_path
    with pytest.raises(ConfigError, match="is in an object store"):
        _ = config("s3://bucket/x").run.folder
