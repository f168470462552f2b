"""NeMo Export-Deploy's DeployPyTriton: serves a deployable from NVIDIA's Triton Inference Server, with the same fields.

Needs nvidia-pytriton (extra `triton`), which requires numpy 1: the serve image has it, the default environment not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sysconfig
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

import numpy as np

from serve_apps.export_deploy.deployable import TensorRTLLMAPIDeployable
from tuneyard.core.errors import ConfigError, MissingDependencyError
from tuneyard.core.ports import check_port_free

DEFAULT_MAX_LENGTH = 256
"""New tokens per answer if a request gives no max_length."""

_OPTIONAL_INPUTS: dict[str, Any] = {
    "max_length": np.int64,
    "max_batch_size": np.int64,  # accepted and ignored, as in Export-Deploy
    "top_k": np.int64,
    "top_p": np.float32,
    "temperature": np.float32,
}
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DeployPyTriton:
    """Call `deploy`, then `serve`, which blocks until a signal, or `run` and later `stop`.

    Triton checks no API key, so the default `address` is loopback. Unlike in Export-Deploy, requests with different
    values can be answered in one batch, errors are raised instead of only logged, and SIGTERM stops the server cleanly.
    If a request is refused, all requests that Triton put into the same batch fail. Raises ConfigError without `model`.
    """

    def __init__(
        self,
        triton_model_name: str,
        triton_model_version: int = 1,
        model: TensorRTLLMAPIDeployable | None = None,
        max_batch_size: int = 128,
        http_port: int = 8000,
        grpc_port: int = 8001,
        address: str = "127.0.0.1",
        allow_grpc: bool = True,
        allow_http: bool = True,
    ) -> None:
        if model is None:
            raise ConfigError("DeployPyTriton needs a model. Pass model=, a TensorRTLLMAPIDeployable.")
        self._name = triton_model_name
        self._version = triton_model_version
        self._model = model
        self._max_batch_size = max_batch_size
        self._ports = {"http": http_port if allow_http else None, "grpc": grpc_port if allow_grpc else None}
        self._address = address
        self._triton: Any = None

    def deploy(self) -> None:
        """Prepares the server, which does not listen yet.

        Raises MissingDependencyError without nvidia-pytriton. Raises PortInUseError if a port is in use: Triton itself
        would wait for it for two minutes.
        """
        try:
            from pytriton.decorators import batch
            from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
            from pytriton.triton import Triton, TritonConfig
        except ModuleNotFoundError as e:
            if e.name != "pytriton":
                raise
            raise MissingDependencyError(
                "The Triton server needs nvidia-pytriton, which is not installed. In an environment with numpy 1.x, "
                "run: pip install 'tuneyard[triton]'"
            ) from e
        http, grpc = self._ports["http"], self._ports["grpc"]
        for name, port in self._ports.items():
            if port is not None:
                check_port_free(self._address, port, f"{name}_port={port + 10}")
        # Triton's Python stub loads this interpreter's shared library; without the path it finds another one, or none.
        os.environ.setdefault("LD_LIBRARY_PATH", str(sysconfig.get_config_var("LIBDIR")))
        config = TritonConfig(
            http_address=self._address,
            http_port=http,
            grpc_address=self._address,
            grpc_port=grpc,
            allow_http=http is not None,
            allow_grpc=grpc is not None,
            # Export-Deploy serves metrics on port 8002 of all interfaces: two deployments on a machine would conflict.
            allow_metrics=False,
        )
        self._triton = Triton(config=config)
        self._triton.bind(
            model_name=self._name,
            model_version=self._version,
            infer_func=batch(self._infer),
            inputs=[
                Tensor(name="prompts", shape=(-1,), dtype=bytes),
                *(Tensor(name=name, shape=(-1,), dtype=kind, optional=True) for name, kind in _OPTIONAL_INPUTS.items()),
            ],
            outputs=[Tensor(name="sentences", shape=(-1,), dtype=bytes)],
            config=ModelConfig(max_batch_size=self._max_batch_size, batcher=DynamicBatcher()),
        )

    def run(self) -> None:
        """Starts the server and returns when it answers. Raises ConfigError before `deploy`."""
        self._deployed().run()

    def serve(self) -> None:
        """Serves until Ctrl-C or SIGTERM, then stops the server. Raises ConfigError before `deploy`."""
        with _signals_as_keyboard_interrupt():
            self.run()
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        self.stop()

    def stop(self) -> None:
        """Stops the server; the deployable stays open. Raises ConfigError before `deploy`."""
        self._deployed().stop()

    def _deployed(self) -> Any:
        if self._triton is None:
            raise ConfigError("The Triton server is not deployed. Call deploy() first.")
        return self._triton

    def _infer(self, prompts: np.ndarray, **optional: np.ndarray) -> dict[str, np.ndarray]:
        """Answers a batch of inputs [rows, 1]; each row may have its own values."""
        texts = [bytes(prompt).decode("utf-8") for prompt in prompts[:, 0]]
        count = len(texts)
        columns = (_column(optional.get(name), count) for name in ("max_length", "temperature", "top_k", "top_p"))
        lengths, temperatures, top_ks, top_ps = columns
        requests = [
            (
                text,
                DEFAULT_MAX_LENGTH if length is None else int(length),
                None if temperature is None else float(temperature),
                None if top_k is None else int(top_k),
                None if top_p is None else float(top_p),
            )
            for text, length, temperature, top_k, top_p in zip(
                texts, lengths, temperatures, top_ks, top_ps, strict=True
            )
        ]
        answers = self._model.generate_each(requests)
        return {"sentences": np.array([[answer.encode("utf-8")] for answer in answers], dtype=object)}


def _column(values: np.ndarray | None, count: int) -> Sequence[Any]:
    return [None] * count if values is None else list(values[:, 0])


@contextlib.contextmanager
def _signals_as_keyboard_interrupt() -> Iterator[None]:
    """STOP_SIGNALS raise KeyboardInterrupt: by default SIGTERM ends the process before it can remove Triton's files."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
