"""The TensorRT-LLM engine on Ray Serve, with the fake package and pretended GPUs: placement, failure, restart."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from tests.integration.processes import free_port, run, running
from tests.mxfp4_base import publish_mxfp4
from tests.serve_apps.conftest import FAKE_TENSORRT_LLM

pytestmark = pytest.mark.integration
CRASH_AFTER = 40
"""Tokens, over all requests."""
QUESTION: list[Any] = [{"role": "user", "content": "What does error E47 mean?"}]


def model_section(name: str, checkpoint: Path, **engine_fields: Any) -> dict[str, Any]:
    """A model's section of a ServeConfig; `engine_fields` are fields of its section `tensorrt_llm`."""
    engine = {"gpu": "H100", "max_seq_len": 1024, "stall_timeout_s": 3} | engine_fields
    return {
        "model_id": name,
        "checkpoint": str(checkpoint),
        "route_prefix": f"/{name}",
        "engine": {"engine": "tensorrt_llm", "tensorrt_llm": engine},
        "replicas": {"num_cpus": 0.2, "health_check_period_s": 1},
    }


@pytest.fixture(scope="module", autouse=True)
def pretended_gpus() -> Iterator[None]:
    """Ray counts three GPUs that do not exist; replicas import the fake package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 3, "CPU": 4}')
        present = [path for path in [os.environ.get("PYTHONPATH")] if path]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE_TENSORRT_LLM), *present]))
        yield


@pytest.fixture(scope="module")
def quantised(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base checkpoint with MXFP4 experts."""
    target = tmp_path_factory.mktemp("published") / "q"
    publish_mxfp4(tiny_oss, target)
    return target


@pytest.fixture(scope="module")
def root(tiny_oss: Path, quantised: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of two models: the engine of `crashing` fails after CRASH_AFTER tokens; `ray` has two GPUs."""
    folder, port = tmp_path_factory.mktemp("served"), free_port()
    config = {
        "http": {"port": port},
        "models": [
            model_section("crashing", tiny_oss, env={"FAKE_TRTLLM_CRASH_AFTER_TOKENS": str(CRASH_AFTER)}),
            model_section("ray", quantised, tensor_parallel_size=2, orchestrator="ray"),
        ],
    }
    (folder / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    arguments = ("-m", "serve_apps.deploy", "--config", str(folder / "serve.yaml"), "--address", "local")
    with running(folder, folder / "home", *arguments) as command:
        command.wait_for(lambda: "Ctrl-C stops it" in command.output, "deployment")
        yield f"http://127.0.0.1:{port}"


def stream_answer(root: str, name: str, tokens: int) -> str:
    """Streams an answer of up to `tokens` tokens; returns its finish reason. Raises openai.APIError if it fails."""
    with openai.OpenAI(base_url=f"{root}/{name}/v1", api_key="none", max_retries=0) as client:
        reasons = []
        stream = client.chat.completions.create(
            model=name, messages=QUESTION, max_tokens=tokens, stream=True, temperature=0
        )
        for chunk in stream:
            reasons += [choice.finish_reason for choice in chunk.choices if choice.finish_reason]
    assert len(reasons) == 1
    return str(reasons[0])


def test_a_replica_over_two_gpus_answers(root: str) -> None:
    assert stream_answer(root, "ray", 8) == "length"


def test_an_engine_that_fails_during_a_stream_is_reported_and_replaced(root: str) -> None:
    """The stream ends with an error event and without [DONE]; the other model answers; a new replica starts."""
    assert stream_answer(root, "crashing", 4) == "length"
    body = {"model": "crashing", "messages": QUESTION, "max_tokens": 400, "stream": True, "temperature": 0}
    with httpx.stream("POST", f"{root}/crashing/v1/chat/completions", json=body, timeout=60) as response:
        events = [line for line in response.iter_lines() if line]
    assert response.status_code == 200
    assert '"type": "server_error"' in events[-1]
    assert "The engine failed" in events[-1]
    assert not any("[DONE]" in event for event in events)
    assert stream_answer(root, "ray", 60) == "length"
    deadline = time.monotonic() + 120
    while True:
        try:
            assert stream_answer(root, "crashing", 4) == "length"
            break
        except openai.APIError:
            assert time.monotonic() < deadline, "no new replica answered within 120 s"
            time.sleep(0.5)


def test_impossible_numbers_of_gpus_are_refused_before_anything_starts(tiny_oss: Path, tmp_path: Path) -> None:
    """Three GPUs do not divide the model's four attention heads. Four do, but Ray has only three."""
    for gpus, message in (
        (3, "tensor_parallel_size=3 does not divide the model's 4 attention heads"),
        (4, "GPU: 4 needed, 3 available"),
    ):
        (tmp_path / "serve.yaml").write_text(
            yaml.safe_dump(
                {"http": {"port": free_port()}, "models": [model_section("m", tiny_oss, tensor_parallel_size=gpus)]}
            )
        )
        arguments = ("-m", "serve_apps.deploy", "--config", str(tmp_path / "serve.yaml"), "--address", "local")
        code, output = run(tmp_path, tmp_path / "home", *arguments)
        assert code == 1
        assert message in output
        assert "Traceback" not in output
