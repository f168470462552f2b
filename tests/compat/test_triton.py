"""NeMo Export-Deploy's calls over a real Triton server: Tuneyard's client, and NVIDIA's client."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve_apps.export_deploy.deployable import TensorRTLLMAPIDeployable
from serve_apps.export_deploy.triton_query import NemoQueryTRTLLMAPI
from tests.integration.processes import free_port
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import EngineError, RequestError

pytestmark = pytest.mark.compat
PYTHON = Path(".venv-triton/bin/python").absolute()
HERE = Path(__file__).parent


def environment(home: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": "platform:.", "HOME": str(home), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module", params=["scripted", "transformers"])
def served(
    request: pytest.FixtureRequest, tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Engine and port of a server in .venv-triton; at the end it leaves no process and no files in the home folder."""
    assert PYTHON.is_file(), "run these tests with `make test-compat`, which creates their environment"
    home, port = tmp_path_factory.mktemp("home"), free_port()
    command = [PYTHON, HERE / "triton_server.py", request.param, tiny_oss, str(port)]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment(home), stdout=log, stderr=log)
        try:
            yield request.param, port
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (home / "log").read_text()
        finally:
            process.kill()
            process.wait()
    assert "STOPPED" in (home / "log").read_text()
    assert not list(home.glob(".cache/pytriton/workspace_*"))


def expected(tiny_oss: Path, prompts: list[str], length: int) -> list[str]:
    with TensorRTLLMAPIDeployable(str(tiny_oss), engine=EngineConfig(engine="transformers")) as deployable:
        return deployable.generate(prompts, max_length=length)


def test_export_deploys_query_is_answered(served: tuple[str, int], tiny_oss: Path) -> None:
    engine, port = served
    client = NemoQueryTRTLLMAPI(url=f"localhost:{port}", model_name="gpt-oss")
    prompts = ["What is the capital of France?", "Grüße, what is it?"]
    output = client.query_llm(prompts=prompts, max_length=12)
    assert output.shape == (2, 1)
    if engine == "transformers":
        assert output[:, 0].tolist() == expected(tiny_oss, prompts, 12)
    else:
        assert len(set(output[:, 0].tolist())) == 2


def test_requests_with_different_lengths_are_answered_together(served: tuple[str, int], tiny_oss: Path) -> None:
    """In Export-Deploy all requests that Triton merges fail if their lengths differ."""
    engine, port = served
    client = NemoQueryTRTLLMAPI(url=f"http://127.0.0.1:{port}", model_name="gpt-oss")
    lengths = [3, 5, 7, 9] * 3
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda length: client.query_llm(["What is it?"], max_length=length)[0, 0], lengths))
    if engine == "transformers":
        by_length = {length: expected(tiny_oss, ["What is it?"], length)[0] for length in set(lengths)}
        assert answers == [by_length[length] for length in lengths]
    assert all(answers)


def test_nvidias_own_client_is_answered(served: tuple[str, int], tmp_path: Path) -> None:
    _, port = served
    command = [PYTHON, "-W", "ignore", HERE / "triton_client.py", str(port), "What is it?", "6"]
    finished = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=120, check=True
    )
    assert finished.stdout.strip("\n")


def test_errors_reach_the_client(served: tuple[str, int]) -> None:
    _, port = served
    client = NemoQueryTRTLLMAPI(url=f"127.0.0.1:{port}", model_name="gpt-oss")
    with pytest.raises((RequestError, EngineError), match="max_tokens=0 must be from 1"):
        client.query_llm(["What is it?"], max_length=0)
    assert client.query_llm(["What is it?"], max_length=4).shape == (1, 1)
    with pytest.raises(EngineError, match="the model other is not ready after 1 s"):
        NemoQueryTRTLLMAPI(url=f"127.0.0.1:{port}", model_name="other").query_llm(["x"], init_timeout=1)


def test_a_port_in_use_is_reported_at_once(served: tuple[str, int], tiny_oss: Path, tmp_path: Path) -> None:
    """Triton would wait two minutes."""
    _, port = served
    NemoQueryTRTLLMAPI(f"127.0.0.1:{port}", "gpt-oss").query_llm(["x"], max_length=2)
    started = time.monotonic()
    command = [PYTHON, HERE / "triton_server.py", "scripted", tiny_oss, str(port)]
    finished = subprocess.run(
        command, env=environment(tmp_path), capture_output=True, text=True, timeout=110, check=False
    )
    assert f"Port {port} on 127.0.0.1 is taken" in finished.stderr
    assert time.monotonic() - started < 100
