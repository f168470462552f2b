"""LlamaServer: llama.cpp's server inside this process. The only module that imports xllamacpp."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xllamacpp

from tuneyard.configs.engines.llama_cpp import LlamaCppConfig
from tuneyard.core.errors import ConfigError, EngineError

SOCKET_FOLDER = "/tmp"
"""A path of a socket has at most 107 bytes, and a temporary folder of the system may be longer."""

ERRORS_ONLY = 1
"""llama.cpp's `verbosity` that prints errors, and nothing of a request."""

ChunkReader = Callable[[dict[str, Any]], bool]
"""Gets each chunk of an answer; returns True to cancel the rest."""


class LlamaServer:
    """Loads a GGUF file and answers completions, in batches over the requests that are running.

    Loading blocks, and holds the interpreter lock. Raises ConfigError for layers on a GPU where llama.cpp has none, and
    EngineError if llama.cpp cannot load the file; its reason is in the process' standard error.
    """

    def __init__(self, config: LlamaCppConfig, gguf: Path) -> None:
        _check_gpu(config)
        # llama.cpp always serves HTTP too. It listens on a socket in a private folder, which is removed: no client can
        # reach it, on no port.
        folder = Path(tempfile.mkdtemp(prefix="tuneyard-", dir=SOCKET_FOLDER))
        try:
            self._server: Any = xllamacpp.Server(server_parameters(config, gguf, folder / "http.sock"))
        except RuntimeError as e:
            raise EngineError(
                f"llama.cpp could not load {gguf}. Its reason stands above this message in the replica's standard "
                "error. The usual cause is too little memory for the weights and n_ctx."
            ) from e
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        self.last_progress = time.monotonic()
        """Time of the last chunk of any request, or of the last start of one."""

    def complete(self, fields: dict[str, Any], on_chunk: ChunkReader, *, logit_bias: str = "[]") -> None:
        """Runs one request to llama.cpp until its last chunk, or until `on_chunk` cancels it. Blocks; thread-safe.

        `fields` are those of llama.cpp's /v1/completions; `logit_bias` is that field as JSON. Raises EngineError if
        llama.cpp refuses the request or fails in it, and what `on_chunk` raises.
        """
        errors: list[Exception] = []

        def read(text: str) -> bool:
            self.last_progress = time.monotonic()
            try:
                chunk = json.loads(text)
                if "error" in chunk:
                    raise EngineError(f"llama.cpp failed in this request: {chunk['error'].get('message')}")
                return on_chunk(chunk)
            except Exception as e:  # noqa: BLE001  # xllamacpp would drop it; it is raised below
                errors.append(e)
                return True

        self.last_progress = time.monotonic()
        try:
            self._server.handle_completions(f'{json.dumps(fields)[:-1]}, "logit_bias": {logit_bias}}}', read)
        except RuntimeError:
            # Raised before the request is queued. Its text quotes the request, and so would a traceback with it.
            raise EngineError("llama.cpp could not read this request.") from None
        if errors:
            raise errors[0]

    def close(self) -> None:
        """Ends llama.cpp's thread and frees the model. No request may be running."""
        # Its destructor waits for the thread.
        self._server = None


def describe_build() -> str:
    """What the installed llama.cpp uses of this machine's CPU, in its own words."""
    info = xllamacpp.get_system_info()
    return info.decode() if isinstance(info, bytes) else str(info)


def server_parameters(config: LlamaCppConfig, gguf: Path, socket: Path) -> Any:
    """The parameters of llama.cpp's server, whose HTTP port is a socket in the file `socket`."""
    p = xllamacpp.CommonParams()
    p.model.path = str(gguf)
    p.n_parallel = config.n_parallel
    p.n_ctx = config.n_parallel * config.slot_cells
    p.n_batch, p.n_ubatch = config.n_batch, config.n_ubatch
    p.cpuparams.n_threads = config.n_threads
    p.cpuparams_batch.n_threads = config.n_threads_batch or config.n_threads
    if config.n_gpu_layers is not None:
        p.n_gpu_layers = config.n_gpu_layers
    p.flash_attn_type = {
        "auto": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_AUTO,
        "on": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[config.flash_attn]
    types = xllamacpp.ggml_type
    p.cache_type_k = types[f"GGML_TYPE_{config.cache_type_k.upper()}"]
    p.cache_type_v = types[f"GGML_TYPE_{config.cache_type_v.upper()}"]
    p.swa_full = config.swa_full
    # The slots' own caches are counted in n_ctx; this one would take up to 8 GiB more.
    p.cache_ram_mib = 0
    # Without swa_full, llama.cpp keeps copies of the window's keys and values, to continue from when a prompt shares
    # its beginning with an earlier one. In xllamacpp 2026.10, what is continued from one has wrong probabilities.
    p.n_ctx_checkpoints = 0
    # Otherwise llama.cpp changes n_ctx to what fits.
    p.fit_params = False
    p.verbosity = ERRORS_ONLY
    p.hostnames = [str(socket)]
    p.api_keys = [secrets.token_urlsafe(32)]
    p.n_threads_http = 1
    p.ui = p.endpoint_slots = p.use_jinja = False
    return p


def _check_gpu(config: LlamaCppConfig) -> None:
    types = xllamacpp.ggml_backend_dev_type
    gpus = {types.GGML_BACKEND_DEVICE_TYPE_GPU, types.GGML_BACKEND_DEVICE_TYPE_IGPU}
    if config.n_gpu_layers and not any(device["type"] in gpus for device in xllamacpp.get_device_info()):
        raise ConfigError(
            f"engine.llama_cpp.n_gpu_layers is {config.n_gpu_layers}, but the installed xllamacpp finds no GPU. Give "
            "the replica one (replicas.num_gpus), and install an xllamacpp that is built for it: the wheel of "
            "tuneyard[llama-cpp] is for CPUs only. Or remove n_gpu_layers."
        )
