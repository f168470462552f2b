"""The section llama_cpp: which values are refused, with both values named."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.configs.serve import ModelAppConfig


def test_each_slot_has_its_share_of_the_cache() -> None:
    assert LlamaCppConfig.model_validate({"weights": "q8_0", "n_ctx": 10_000, "n_parallel": 3}).max_model_len == 3333


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "Field required"),
        ({"weights": "q4_0"}, "'mxfp4', 'q8_0', 'f16', 'bf16' or 'f32'"),
        ({"weights": "f32", "n_ubatch": 1024}, "n_ubatch=1024 is larger than n_batch=512"),
        ({"weights": "f32", "n_ctx": 640, "n_parallel": 11}, "n_ctx=640 leaves 58 tokens for each of n_parallel=11"),
        ({"weights": "f32", "cache_type_v": "q8_0", "flash_attn": "off"}, "cache_type_v: q8_0 needs flash_attn"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LlamaCppConfig.model_validate(fields)


def test_the_section_and_the_engine_belong_together() -> None:
    section = {"weights": "f32"}
    grammar = {"cpu_s": 1.0}
    assert EngineConfig.model_validate({"engine": "llama_cpp", "llama_cpp": section, "grammar": grammar}).gpus == 0
    for fields, message in (
        ({"engine": "llama_cpp"}, "the section llama_cpp is for engine: llama_cpp only, and required there"),
        ({"llama_cpp": section}, "found engine: transformers"),
        ({"engine": "llama_cpp", "llama_cpp": section, "threads": 2}, "threads is not a field of the llama.cpp engine"),
    ):
        with pytest.raises(ValidationError, match=message):
            EngineConfig.model_validate(fields)


def test_a_replica_has_a_cpu_for_each_thread() -> None:
    def app(threads: dict[str, int], num_cpus: float) -> ModelAppConfig:
        engine = {"engine": "llama_cpp", "llama_cpp": {"weights": "f32", **threads}}
        fields = {"model_id": "m", "checkpoint": "m", "engine": engine, "replicas": {"num_cpus": num_cpus}}
        return ModelAppConfig.model_validate(fields)

    app({"n_threads": 1}, 0.5)
    app({"n_threads": 4, "n_threads_batch": 2}, 4)
    with pytest.raises(ValidationError, match=r"runs 4 threads .* replicas\.num_cpus=2.* Set num_cpus: 4"):
        app({"n_threads": 1, "n_threads_batch": 4}, 2)
