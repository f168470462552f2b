"""NeMo Export-Deploy's NemoQueryTRTLLMAPI: a client for DeployPyTriton's Triton server over HTTP."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from tuneyard.core.errors import ConfigError, EngineError, RequestError

_TYPES = {"max_length": "INT64", "top_k": "INT64", "top_p": "FP32", "temperature": "FP32"}


class NemoQueryTRTLLMAPI:
    """Client for the model `model_name` at `url`, which is `host:port` or `http://host:port`.

    `timeout_s` limits each request. Raises ConfigError for a grpc:// URL.
    """

    def __init__(self, url: str, model_name: str, timeout_s: float = 600.0) -> None:
        if url.startswith("grpc://"):
            raise ConfigError(
                f"{url}: this client speaks HTTP only. Give the server's HTTP port, for example http://host:8000."
            )
        self._url = (url if url.startswith("http") else f"http://{url}").rstrip("/")
        self._model = model_name
        self._timeout_s = timeout_s

    def query_llm(
        self,
        prompts: Sequence[str],
        max_length: int = 256,
        top_k: int | None = None,
        top_p: float | None = None,
        temperature: float | None = None,
        init_timeout: float = 60.0,
    ) -> np.ndarray:
        """The answers as an array [prompts, 1] of str, as in Export-Deploy.

        Waits up to `init_timeout` seconds for the model to be ready. Raises EngineError if the server cannot be reached
        or fails, and RequestError if it refuses the request.
        """
        count = len(prompts)
        inputs: list[dict[str, Any]] = [
            {"name": "prompts", "shape": [count, 1], "datatype": "BYTES", "data": list(prompts)}
        ]
        for name, value in (
            ("max_length", max_length),
            ("top_k", top_k),
            ("top_p", top_p),
            ("temperature", temperature),
        ):
            if value is not None:
                inputs.append({"name": name, "shape": [count, 1], "datatype": _TYPES[name], "data": [value] * count})
        with httpx.Client(base_url=self._url, timeout=self._timeout_s) as client:
            self._wait_until_ready(client, init_timeout)
            try:
                response = client.post(f"/v2/models/{self._model}/infer", json={"inputs": inputs})
            except httpx.HTTPError as e:
                raise EngineError(f"{self._url}: {type(e).__name__}: {e}") from e
        if response.status_code >= 500:
            raise EngineError(f"{self._url}: {self._model} failed: {_error_text(response)}")
        if response.status_code != 200:
            raise RequestError(f"{self._url}: {self._model} refused the request: {_error_text(response)}")
        (sentences,) = (o for o in response.json()["outputs"] if o["name"] == "sentences")
        return np.array(sentences["data"], dtype=str).reshape(count, 1)

    def _wait_until_ready(self, client: httpx.Client, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        state = "no answer"
        while True:
            try:
                response = client.get(f"/v2/models/{self._model}/ready", timeout=5)
                if response.status_code == 200:
                    return
                state = _error_text(response)
            except httpx.HTTPError as e:
                state = f"{type(e).__name__}: {e}"
            if time.monotonic() > deadline:
                raise EngineError(f"{self._url}: the model {self._model} is not ready after {timeout_s:g} s: {state}")
            time.sleep(0.2)


def _error_text(response: httpx.Response) -> str:
    """Triton's error message, or the status and the start of the body if the response contains none."""
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code} {response.text[:200]}"
