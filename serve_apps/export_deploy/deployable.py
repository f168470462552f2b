"""NeMo Export-Deploy's TensorRTLLMAPIDeployable on Tuneyard's engines, for code written for Export-Deploy.

Names and arguments are those of Export-Deploy v0.5.0, nemo_deploy/llm/trtllm_api_deployable.py. Later versions of
Export-Deploy do not have this class.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Coroutine, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tokenizers import Tokenizer

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.stop_tokens import read_stop_token_ids
from tuneyard.chats.messages import ChatMessage
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.safety.checkpoint_safety import refuse_adapter
from tuneyard.configs.engine import EngineConfig
from tuneyard.configs.engines.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import describe_gpus, known_local_gpu

Result = TypeVar("Result")


class TensorRTLLMAPIDeployable:
    """An engine in this process, with blocking calls. Close it, or use it as a context manager.

    `hf_model_id_path` is a checkpoint folder; nothing is downloaded. `engine` selects another engine than TensorRT-LLM;
    the size and parallelism arguments then have no effect. With `chat`, each prompt is a user's message, rendered as in
    training, and `generate` returns the final answer. Without it, prompts are completed as plain text, as Export-Deploy
    does; GPT-OSS was not trained for that. Raises ConfigError, CheckpointError, and the engine's errors while it loads.
    """

    def __init__(
        self,
        hf_model_id_path: str,
        tokenizer: str | None = None,
        tensor_parallel_size: int = 1,
        pipeline_parallel_size: int = 1,
        moe_expert_parallel_size: int = -1,
        moe_tensor_parallel_size: int = -1,
        max_batch_size: int = 8,
        max_num_tokens: int = 8192,
        backend: str = "pytorch",
        dtype: str = "auto",
        *,
        engine: EngineConfig | None = None,
        chat: bool = False,
    ) -> None:
        folder = _checkpoint_folder(hf_model_id_path)
        for name, value, supported in (
            ("tokenizer", tokenizer, None),
            ("pipeline_parallel_size", pipeline_parallel_size, 1),
            ("moe_tensor_parallel_size", moe_tensor_parallel_size, -1),
            ("backend", backend, "pytorch"),
            ("dtype", dtype, "auto"),
        ):
            if value != supported:
                raise ConfigError(
                    f"{name}={value!r} is not supported for GPT-OSS. The only value is {supported!r}: leave it out."
                )
        if engine is None:
            section = TensorRTLLMConfig.model_validate(
                {
                    "gpu": _local_gpu_name(),
                    "tensor_parallel_size": tensor_parallel_size,
                    "moe_expert_parallel_size": None if moe_expert_parallel_size < 0 else moe_expert_parallel_size,
                    "max_batch_size": max_batch_size,
                    "max_num_tokens": max_num_tokens,
                    "max_seq_len": max_num_tokens,
                }
            )
            engine = EngineConfig(engine="tensorrt_llm", tensorrt_llm=section)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._codec = HarmonyCodec.from_checkpoint(folder, _codec_settings(folder)) if chat else None
        self._stop_token_ids = self._codec.stop_token_ids if self._codec is not None else read_stop_token_ids(folder)
        self._serial = itertools.count()
        self._engine = create_engine(engine, folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="deployable", daemon=True)
        self._thread.start()
        try:
            self._run(self._engine.start())
        except BaseException:
            self.close()
            raise

    def generate(
        self,
        prompts: Sequence[str],
        max_length: int = 256,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> list[str]:
        """One answer per prompt, of at most `max_length` new tokens.

        Greedy if temperature, top_k and top_p are all None. Raises RequestError for a prompt or value that the engine
        refuses, and EngineError if the engine fails.
        """
        return self.generate_each([(prompt, max_length, temperature, top_k, top_p) for prompt in prompts])

    def generate_each(self, requests: Sequence[tuple[str, int, float | None, int | None, float | None]]) -> list[str]:
        """`generate` with separate values for each prompt, all in one batch.

        Each request is (prompt, max_length, temperature, top_k, top_p).
        """
        return self._run(self._generate_all([self._generation_request(*request) for request in requests]))

    def close(self) -> None:
        """Frees the engine. A second call does nothing."""
        if self._loop.is_closed():
            return
        self._run(self._engine.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _generation_request(
        self, prompt: str, max_length: int, temperature: float | None, top_k: int | None, top_p: float | None
    ) -> GenerationRequest:
        if self._codec is None:
            ids = self._tokenizer.encode(prompt).ids
        else:
            ids = self._codec.render([ChatMessage(role="user", content=prompt)])
        is_greedy = temperature is None and top_k is None and top_p is None
        sampling = SamplingParams(
            max_tokens=max_length,
            temperature=0.0 if is_greedy else 1.0 if temperature is None else temperature,
            top_p=1.0 if top_p is None else top_p,
            top_k=top_k or 0,
        )
        return GenerationRequest(f"deployable-{next(self._serial)}", tuple(ids), sampling, self._stop_token_ids)

    async def _generate_all(self, requests: list[GenerationRequest]) -> list[str]:
        tasks = [asyncio.create_task(self._generate(request)) for request in requests]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def _generate(self, request: GenerationRequest) -> str:
        ids: list[int] = []
        async for chunk in self._engine.generate(request):
            ids += chunk.token_ids
        if self._codec is None:
            return str(self._tokenizer.decode(ids))
        parser = self._codec.stream_parser()
        deltas = [*parser.feed(ids), *parser.finish()]
        return "".join(delta.text for delta in deltas if delta.channel == "final")

    def _run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _checkpoint_folder(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    refuse_adapter(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{path} is not a checkpoint folder: it contains no config.json. Models are not downloaded here. Run "
            f"`hf download {path} --exclude '*/*' --local-dir FOLDER`, then `tuneyard models adopt "
            "FOLDER`, and pass FOLDER."
        )
    return folder


def _codec_settings(folder: Path) -> CodecSettings:
    codec = read_manifest(folder).codec
    return codec.codec_settings() if codec is not None else CodecSettings()


def _local_gpu_name() -> str:
    """This machine's GPU, by its name in configs. Raises ConfigError if TensorRT-LLM does not run on it."""
    if (known := known_local_gpu()) is not None:
        return known
    names = [gpu["name"] for gpu in describe_gpus()]
    raise ConfigError(
        f"TensorRT-LLM runs on {', '.join(GPUS)}; this machine's GPU is: {names[0] if names else 'none'}. "
        "On other machines pass engine=EngineConfig(engine='transformers')."
    )
