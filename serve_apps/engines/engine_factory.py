"""Creates the engine that a config names: the only importer of the engines' adapters."""

from __future__ import annotations

from pathlib import Path

from serve_apps.engines.engine import InferenceEngine
from tuneyard.configs.serve import EngineConfig
from tuneyard.core.errors import MissingDependencyError


def create_engine(config: EngineConfig, checkpoint: Path) -> InferenceEngine:
    """The engine that `engine` names, not started yet."""
    match config.engine:
        case "transformers":
            from serve_apps.engines.transformers_engine import TransformersEngine

            return TransformersEngine(config, checkpoint)
        case "tensorrt_llm":
            try:
                from serve_apps.engines.tensorrt_llm_engine import TensorRTLLMEngine
            except ModuleNotFoundError as e:
                # What is there and broken keeps its own traceback.
                if e.name != "tensorrt_llm":
                    raise
                raise MissingDependencyError(
                    "engine: tensorrt_llm needs TensorRT-LLM, which is not installed here. Run replicas in the serve "
                    "image (platform/images/serve.Dockerfile); the extra tuneyard[tensorrt_llm] alone contradicts "
                    "Ray Serve's pins, as that file explains."
                ) from e
            return TensorRTLLMEngine(config, checkpoint)
        case "scripted":
            from serve_apps.engines.scripted_engine import ScriptedEngine

            return ScriptedEngine(config.script, config.token_interval_s)
