"""NeMo Export-Deploy's TensorRTLLMAPIDeployable, over an engine of ours: for code that was written for it.

Same name, arguments and meaning (Export-Deploy v0.5.0, nemo_deploy/llm/trtllm_api_deployable.py; later there is none).
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
from tuneyard.chats.messages import ChatMessage
from tuneyard.checkpoints.layout.gpt_oss import read_json
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.configs.serve import EngineConfig
from tuneyard.configs.tensorrt_llm import TensorRTLLMConfig
from tuneyard.core.errors import CheckpointError, ConfigError
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec
from tuneyard.planning.gpus import GPUS
from tuneyard.planning.local_gpus import describe_gpus, known_gpu_here

Result = TypeVar("Result")


class TensorRTLLMAPIDeployable:
    """An engine in this process, with blocking calls. Close it, or use it as a context manager.

    `hf_model_id_path` is a checkpoint folder. `engine`: another one than TensorRT-LLM; the fields before it are then
    not used. `chat`: each prompt is a user's message, rendered as in training, and what comes back is the final answer;
    without it prompts are completed as they stand, as Export-Deploy does, which GPT-OSS was never trained for.
    Raises ConfigError and CheckpointError with the fix, and what the engine raises while it loads.
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
        folder = _folder(hf_model_id_path)
        for name, found, only in (
            ("tokenizer", tokenizer, None),
            ("pipeline_parallel_size", pipeline_parallel_size, 1),
            ("moe_tensor_parallel_size", moe_tensor_parallel_size, -1),
            ("backend", backend, "pytorch"),
            ("dtype", dtype, "auto"),
        ):
            if found != only:
                raise ConfigError(f"{name}={found!r}: for GPT-OSS here it can only be {only!r}. Leave it out.")
        if engine is None:
            section = TensorRTLLMConfig.model_validate(
                {
                    "gpu": _gpu_here(),
                    "tensor_parallel_size": tensor_parallel_size,
                    "moe_expert_parallel_size": None if moe_expert_parallel_size < 0 else moe_expert_parallel_size,
                    "max_batch_size": max_batch_size,
                    "max_num_tokens": max_num_tokens,
                    "max_seq_len": max_num_tokens,
                }
            )
            engine = EngineConfig(engine="tensorrt_llm", tensorrt_llm=section)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._codec = HarmonyCodec.from_checkpoint(folder, _settings(folder)) if chat else None
        self._stops = self._codec.stop_token_ids if self._codec is not None else _stop_token_ids(folder)
        self._serial = itertools.count()
        self._engine = create_engine(engine, folder)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="deployable", daemon=True)
        self._thread.start()
        try:
            self._wait(self._engine.start())
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
        """An answer per prompt, of up to `max_length` new tokens; greedy unless something is said about sampling.

        Raises RequestError for a prompt or value that the engine refuses; EngineError when it fails.
        """
        return self.generate_each([(prompt, max_length, temperature, top_k, top_p) for prompt in prompts])

    def generate_each(self, asked: Sequence[tuple[str, int, float | None, int | None, float | None]]) -> list[str]:
        """`generate` with values of its own for each prompt; all run in one batch."""
        return self._wait(self._generate_all([self._request(*each) for each in asked]))

    def close(self) -> None:
        """Frees the engine; may be called twice."""
        if self._loop.is_closed():
            return
        self._wait(self._engine.shutdown())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _request(
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
        return GenerationRequest(f"deployable-{next(self._serial)}", tuple(ids), sampling, self._stops)

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

    def _wait(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _folder(path: str) -> Path:
    folder = Path(path).expanduser().absolute()
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"{path}: no checkpoint folder. Nothing is downloaded here: hf download {path} --exclude 'original/*' "
            "'metal/*' --local-dir FOLDER, "
            "then tuneyard models adopt FOLDER, and give FOLDER."
        )
    return folder


def _settings(folder: Path) -> CodecSettings:
    codec = read_manifest(folder).codec
    return CodecSettings.model_validate(codec.settings) if codec is not None else CodecSettings()


def _stop_token_ids(folder: Path) -> tuple[int, ...]:
    """What the model's own files say ends a completion."""
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file() and (found := read_json(folder / name).get("eos_token_id")) is not None:
            return tuple(found) if isinstance(found, list) else (found,)
    raise CheckpointError(f"{folder}: neither generation_config.json nor config.json has an eos_token_id.")


def _gpu_here() -> str:
    """The name of this machine's GPU, as a config would have it."""
    if (known := known_gpu_here()) is not None:
        return known
    found = [gpu["name"] for gpu in describe_gpus()]
    raise ConfigError(
        f"TensorRT-LLM runs on {', '.join(GPUS)}, and this machine's GPU is: {found[0] if found else 'none'}. "
        "Elsewhere: engine=EngineConfig(engine='transformers')."
    )
