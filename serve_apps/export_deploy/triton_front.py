"""NeMo Export-Deploy's DeployPyTriton: a deployable behind NVIDIA's Triton Inference Server, with the same fields.

Needs nvidia-pytriton (extra `triton`), which wants numpy 1: the serve image has it, the default environment does not.
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
_OPTIONAL: dict[str, Any] = {
    "max_length": np.int64,
    "max_batch_size": np.int64,  # Export-Deploy takes it too, and does nothing with it
    "top_k": np.int64,
    "top_p": np.float32,
    "temperature": np.float32,
}
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class DeployPyTriton:
    """`deploy`, then `serve` (until a signal) or `run` (and `stop`). Listens on loopback unless `address` says
    otherwise: Triton asks for no key.

    Unlike Export-Deploy's, requests with different values answer in one batch, errors are raised and not only logged,
    and SIGTERM stops it cleanly. A request that is refused fails those that Triton put into the same batch.
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
            raise ConfigError("DeployPyTriton needs model=, a TensorRTLLMAPIDeployable.")
        self._name = triton_model_name
        self._version = triton_model_version
        self._model = model
        self._max_batch_size = max_batch_size
        self._ports = {"http": http_port if allow_http else None, "grpc": grpc_port if allow_grpc else None}
        self._address = address
        self._triton: Any = None

    def deploy(self) -> None:
        """Prepares the server; nothing listens yet. Raises MissingDependencyError, and PortInUseError: Triton itself
        would wait two minutes for a port that is taken.
        """
        try:
            from pytriton.decorators import batch
            from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
            from pytriton.triton import Triton, TritonConfig
        except ModuleNotFoundError as e:
            if e.name != "pytriton":
                raise
            raise MissingDependencyError(
                "The Triton front needs nvidia-pytriton: pip install 'tuneyard[triton]', where numpy is 1.x."
            ) from e
        http, grpc = self._ports["http"], self._ports["grpc"]
        for name, port in self._ports.items():
            if port is not None:
                check_port_free(self._address, port, f"{name}_port={port + 10}")
        # Its Python stub looks for this interpreter's own library; without this it finds another one, or none.
        os.environ.setdefault("LD_LIBRARY_PATH", str(sysconfig.get_config_var("LIBDIR")))
        config = TritonConfig(
            http_address=self._address,
            http_port=http,
            grpc_address=self._address,
            grpc_port=grpc,
            allow_http=http is not None,
            allow_grpc=grpc is not None,
            # Export-Deploy leaves them on port 8002, open to all; two deployments of a machine would collide there.
            allow_metrics=False,
        )
        self._triton = Triton(config=config)
        self._triton.bind(
            model_name=self._name,
            model_version=self._version,
            infer_func=batch(self._infer),
            inputs=[
                Tensor(name="prompts", shape=(-1,), dtype=bytes),
                *(Tensor(name=name, shape=(-1,), dtype=kind, optional=True) for name, kind in _OPTIONAL.items()),
            ],
            outputs=[Tensor(name="sentences", shape=(-1,), dtype=bytes)],
            config=ModelConfig(max_batch_size=self._max_batch_size, batcher=DynamicBatcher()),
        )

    def run(self) -> None:
        """Starts it and returns when it answers."""
        self._deployed().run()

    def serve(self) -> None:
        """Serves until Ctrl-C or SIGTERM, and stops cleanly."""
        with _stopping_on_signals():
            self.run()
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
        self.stop()

    def stop(self) -> None:
        """Stops it; the deployable stays as it is."""
        self._deployed().stop()

    def _deployed(self) -> Any:
        if self._triton is None:
            raise ConfigError("Call deploy() first.")
        return self._triton

    def _infer(self, prompts: np.ndarray, **optional: np.ndarray) -> dict[str, np.ndarray]:
        """A batch [rows, 1], each row with values of its own."""
        texts = [bytes(prompt).decode("utf-8") for prompt in prompts[:, 0]]
        count = len(texts)
        columns = (_column(optional.get(name), count) for name in ("max_length", "temperature", "top_k", "top_p"))
        lengths, temperatures, top_ks, top_ps = columns
        asked = [
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
        answers = self._model.generate_each(asked)
        return {"sentences": np.array([[answer.encode("utf-8")] for answer in answers], dtype=object)}


def _column(values: np.ndarray | None, count: int) -> Sequence[Any]:
    return [None] * count if values is None else list(values[:, 0])


@contextlib.contextmanager
def _stopping_on_signals() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt: by default SIGTERM ends the process and the server's files stay behind."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
