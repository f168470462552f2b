"""check_request: the requests that no engine can answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve_apps.engines.engine import GenerationRequest, SamplingParams
from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.request_checks import check_request
from tests.serve_apps.engines.test_engine import PROMPT, collect, request
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import RequestError


@pytest.mark.parametrize(
    ("prompt", "sampling", "param"),
    [
        ((), SamplingParams(4), "messages"),
        (PROMPT, SamplingParams(0), "max_tokens"),
        (PROMPT, SamplingParams(1_000_000), "max_tokens"),
        (PROMPT, SamplingParams(4, temperature=-1.0), "temperature"),
        (PROMPT, SamplingParams(4, temperature=float("nan")), "temperature"),
        (PROMPT, SamplingParams(4, top_p=0.0), "top_p"),
        (PROMPT, SamplingParams(4, top_k=-1), "top_k"),
    ],
)
def test_a_request_that_no_engine_can_answer_is_refused(
    prompt: tuple[int, ...], sampling: SamplingParams, param: str
) -> None:
    with pytest.raises(RequestError) as refused:
        check_request(GenerationRequest("r", prompt, sampling, ()), max_model_len=1024)
    assert refused.value.param == param


@pytest.mark.usefixtures("fake_tensorrt_llm")
async def test_an_engine_refuses_options_that_it_would_ignore(tiny_oss: Path) -> None:
    scripted = create_engine(EngineConfig(engine="scripted", script=((5,),)), tiny_oss)
    for name, value in (("seed", 1), ("min_p", 0.1), ("presence_penalty", 1.0), ("repetition_penalty", 1.1)):
        with pytest.raises(RequestError, match=f"'{name}' is not supported by this engine") as refused:
            await collect(scripted, request("r", 4, **({"temperature": 1.0} | {name: value})))
        assert (refused.value.param, refused.value.code) == (name, "unsupported")


async def test_every_engine_takes_options_that_change_nothing(tiny_oss: Path) -> None:
    """lm-eval always sends a seed, with temperature 0."""
    scripted = create_engine(EngineConfig(engine="scripted", script=((5, 6, 7),)), tiny_oss)
    plain, _ = await collect(scripted, request("r", 2))
    assert (await collect(scripted, request("r", 2, seed=1234, min_p=0.5)))[0] == plain
