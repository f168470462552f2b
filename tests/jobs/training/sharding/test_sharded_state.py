"""A sharded checkpoint is read whole or not at all: the files of one worker may not have been copied."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.api import CheckpointException

from jobs.training.export.trained_model import load_trained_model
from jobs.training.sharding.sharded_state import WEIGHTS, load_weights
from tests.jobs.training.backend_contract import backend_config
from tuneyard.core.errors import CheckpointError

ROWS, COLUMNS = 7, 3


def write_shards(folder: Path, weight: torch.Tensor, ends: list[int]) -> list[Path]:
    """Files of workers that hold the rows up to each of `ends`, in the form that DCP writes."""
    folder.mkdir(parents=True)
    paths = []
    for number, (start, end) in enumerate(zip([0, *ends], [*ends, len(weight)], strict=True), start=1):
        paths.append(folder / f"shard-{number:05d}-model-00001-of-00001.safetensors")
        offsets = json.dumps({"weight": {SAVED_OFFSETS_KEY: [start, 0]}})
        save_file({"weight": weight[start:end].clone()}, paths[-1], {"format": "pt", CUSTOM_METADATA_KEY: offsets})
    return paths


@given(st.lists(st.integers(1, ROWS - 1), min_size=1, unique=True).map(sorted), st.data())
def test_a_checkpoint_is_loaded_whole_or_not_at_all(ends: list[int], data: st.DataObject) -> None:
    folder = Path(tempfile.mkdtemp())
    weight = torch.rand(ROWS, COLUMNS)
    paths = write_shards(folder / WEIGHTS, weight, ends)
    model = torch.nn.Linear(COLUMNS, ROWS, bias=False)
    load_weights(model, folder)
    assert torch.equal(model.weight, weight)
    data.draw(st.sampled_from(paths)).unlink()
    with pytest.raises(CheckpointException, match=r"some part of weight|Size mismatch"):
        load_weights(model, folder)
    shutil.rmtree(folder)


def test_an_export_says_which_files_are_missing(tiny_oss: Path, tmp_path: Path) -> None:
    write_shards(tmp_path / WEIGHTS, torch.rand(ROWS, COLUMNS), [2])[0].unlink()
    with pytest.raises(CheckpointError, match=r"sharded_weights: no file holds some part of weight, so a worker's"):
        load_trained_model(backend_config(tiny_oss, method="full"), tmp_path)
