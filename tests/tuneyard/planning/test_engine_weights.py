"""Weights have the sizes that OpenAI publishes."""

from __future__ import annotations

import pytest

from tests.mxfp4_base import PublishedBase
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.validation import INDEX_NAME
from tuneyard.planning.engine_weights import loaded_expert_bytes, weight_bytes
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.published_models import PUBLISHED


@pytest.mark.parametrize(
    ("size", "mxfp4", "bf16"),
    # total_size in openai/gpt-oss-20b's and -120b's model.safetensors.index.json; twice their parameters.
    [("20b", 13_761_264_768, 41_829_514_368), ("120b", 65_248_815_744, 233_658_313_344)],
)
def test_weights_have_the_published_sizes_to_the_byte(size: str, mxfp4: int, bf16: int) -> None:
    assert sum(weight_bytes(PUBLISHED[size], is_mxfp4=True)) == mxfp4
    assert sum(weight_bytes(PUBLISHED[size], is_mxfp4=False)) == bf16


def test_loaded_experts_are_larger() -> None:
    for gpu in (GPUS["H100"], GPUS["B200"]):
        for sizes in PUBLISHED.values():
            experts, _ = weight_bytes(sizes, is_mxfp4=True)
            assert 1.05 < loaded_expert_bytes(sizes, gpu) / experts < 1.15


def test_a_checkpoint_has_the_planned_size_to_the_byte(published_base: PublishedBase) -> None:
    """In both forms of both models, from their own config.json, as `tuneyard serve plan` reads it."""
    for folder, is_mxfp4 in ((published_base.adopted, True), (published_base.unquantised, False)):
        planned = sum(weight_bytes(read_json(folder / "config.json"), is_mxfp4=is_mxfp4))
        if is_mxfp4:
            assert read_json(folder / INDEX_NAME)["metadata"]["total_size"] == planned
        headers = files = 0
        for path in folder.glob("*.safetensors"):
            with path.open("rb") as file:
                headers += 8 + int.from_bytes(file.read(8), "little")
            files += path.stat().st_size
        assert files - headers == planned
