"""Creates the engine that a config names. Only this module imports the engines' adapters."""

from __future__ import annotations

from pathlib import Path

from serve_apps.engines.engine import InferenceEngine
from tuneyard.checkpoints.safety.checkpoint_safety import check_safety
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import MissingDependencyError


def create_engine(config: EngineConfig, checkpoint: Path) -> InferenceEngine:
    """The engine `config.engine` for a checkpoint folder, not started yet.

    Raises CheckpointError for a checkpoint that is not safe to load, and MissingDependencyError if TensorRT-LLM or
    xllamacpp is needed and not installed.
    """
    check_safety(checkpoint)
    match config.engine:
        case "transformers":
            from serve_apps.engines.transformers_engine import TransformersEngine

            return TransformersEngine(config, checkpoint)
        case "tensorrt_llm":
            try:
                from serve_apps.engines.tensorrt_llm_engine import TensorRTLLMEngine
            except ModuleNotFoundError as e:
                # An installed package that cannot be imported keeps its own traceback.
                if e.name != "tensorrt_llm":
                    raise
                raise MissingDependencyError(
                    "engine: tensorrt_llm needs TensorRT-LLM, which is not installed here. Run the replicas in the "
                    "serve image (platform/images/serve.Dockerfile). Installing only the extra tuneyard[tensorrt-llm] "
                    "conflicts with Ray Serve's pinned versions; that file explains why."
                ) from e
            return TensorRTLLMEngine(config, checkpoint)
        case "llama_cpp":
            try:
                from serve_apps.engines.llama_cpp.llama_cpp_engine import LlamaCppEngine
            except ModuleNotFoundError as e:
                if e.name != "xllamacpp":
                    raise
                raise MissingDependencyError(
                    "engine: llama_cpp needs the package xllamacpp, which is not installed here. On every node that "
                    "runs replicas: pip install 'tuneyard[llama-cpp]'. docs/serving.md says how to get a build for "
                    "this CPU or for CUDA."
                ) from e
            return LlamaCppEngine(config, checkpoint)
        case "scripted":
            from serve_apps.engines.scripted_engine import ScriptedEngine

            return ScriptedEngine(config.script, config.token_interval_s)
