"""Checks of a deployment's config between its sections; the shipped configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.configs.replicas import ReplicaConfig
from tuneyard.configs.serve import ModelAppConfig, ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.core.errors import ConfigError


def engine(**fields: Any) -> TensorRTLLMConfig:
    return TensorRTLLMConfig.model_validate({"gpu": "H100"} | fields)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"engine": {"engine": "tensorrt_llm"}}, "is for engine: tensorrt_llm only"),
        ({"engine": {"tensorrt_llm": {"gpu": "H100"}}}, "found engine: transformers"),
        (
            {"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}, "threads": 2}},
            "threads is not a field",
        ),
        (
            {"engine": {"engine": "tensorrt_llm", "tensorrt_llm": {"gpu": "H100"}}, "replicas": {"num_gpus": 2}},
            r"num_gpus=2\.0, but the engine takes tensor_parallel_size=1",
        ),
    ],
)
def test_a_model_and_its_engine(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelAppConfig.model_validate({"model_id": "m", "checkpoint": "c"} | model)


def test_other_engines_keep_their_fields() -> None:
    assert EngineConfig(threads=2).gpus == 0
    model = ModelAppConfig(model_id="m", checkpoint="c")
    assert model.gpus_per_replica == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []\n", "models: give at least one"),
        ("http: {host: 0.0.0.0, require_keys: false}\nmodels: [{model_id: a, checkpoint: c}]\n", "loopback only"),
        ("models: [{model_id: a, checkpoint: c}, {model_id: b, checkpoint: c}]\n", "route_prefix '/' is used more"),
        (
            "models: [{model_id: a, checkpoint: c, route_prefix: /}]\nplatform: {}\n",
            "'/' of 'a' is that of the gateway",
        ),
        (
            "models: [{model_id: a, checkpoint: c, replicas: {autoscaling_config: {min_replicas: 0}}}]\n",
            "either num_replicas",
        ),
    ],
)
def test_serve_config_mistakes_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(ServeConfig, path)


@pytest.mark.parametrize("path", sorted(Path("serve_apps/configs").glob("*.yaml")))
def test_shipped_serve_configs_load(path: Path) -> None:
    load_config(ServeConfig, path)


@pytest.mark.parametrize(
    ("fields", "autoscaling"),
    [
        ({"num_replicas": 4}, {"min_replicas": 0, "max_replicas": 4}),
        ({"num_replicas": 0}, {"min_replicas": 0, "max_replicas": 1}),
        (
            {
                "num_replicas": None,
                "autoscaling_config": {
                    "min_replicas": 2, "initial_replicas": 3, "max_replicas": 5, "downscale_delay_s": 60
                },
            },
            {"min_replicas": 0, "max_replicas": 5, "downscale_delay_s": 60},
        ),
    ],
)  # fmt: skip
def test_replicas_scaled_to_zero_keep_all_else(fields: dict[str, Any], autoscaling: dict[str, Any]) -> None:
    replicas = ReplicaConfig.model_validate({"num_cpus": 0.3, "max_ongoing_requests": 7} | fields)
    scaled = replicas.scaled_to_zero()
    assert (scaled.num_replicas, scaled.autoscaling_config) == (None, autoscaling)
    assert scaled.model_dump(exclude={"num_replicas", "autoscaling_config"}) == replicas.model_dump(
        exclude={"num_replicas", "autoscaling_config"}
    )
