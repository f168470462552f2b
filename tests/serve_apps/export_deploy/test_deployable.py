"""NeMo Export-Deploy's calls in this process, on the fake of TensorRT-LLM and on transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve_apps.export_deploy.deployable import TensorRTLLMAPIDeployable
from serve_apps.export_deploy.triton_front import DeployPyTriton
from serve_apps.export_deploy.triton_query import NemoQueryTRTLLMAPI
from tests.harmony_text import encode_spelled_out
from tuneyard.configs.engine import EngineConfig
from tuneyard.core.errors import CheckpointError, ConfigError, EngineError, MissingDependencyError, RequestError

PROMPT = "What is the color of a banana?"


def completion(checkpoint: Path, prompt: str, length: int) -> str:
    """Greedy completion by transformers' generate()."""
    model = transformers.AutoModelForCausalLM.from_pretrained(
        checkpoint, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False)
    return str(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True))


@pytest.mark.usefixtures("fake_tensorrt_llm")
def test_export_deploys_call_is_completed_by_tensorrt_llm(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_apps.export_deploy.deployable._local_gpu_name", lambda: "H100")
    deployable = TensorRTLLMAPIDeployable(hf_model_id_path=str(tiny_oss), tensor_parallel_size=2)
    output = deployable.generate(prompts=[PROMPT, "Hello"], max_length=20)
    deployable.close()
    deployable.close()
    assert output == [completion(tiny_oss, PROMPT, 20), completion(tiny_oss, "Hello", 20)]


def test_sampling_and_refused_values(tiny_oss: Path) -> None:
    with TensorRTLLMAPIDeployable(str(tiny_oss), engine=EngineConfig(engine="transformers")) as deployable:
        greedy = deployable.generate([PROMPT], max_length=20)
        assert deployable.generate([PROMPT], 20, temperature=1.5, top_k=1) == greedy
        assert len({deployable.generate([PROMPT], 20, temperature=2.0)[0] for _ in range(3)} | set(greedy)) == 4
        with pytest.raises(RequestError, match="max_tokens=0"):
            deployable.generate(["fine", PROMPT], max_length=0)
        assert deployable.generate([PROMPT], max_length=20) == greedy


def test_a_chat_is_rendered_as_in_training_and_the_final_answer_returned(tiny_oss: Path) -> None:
    reply = "<|channel|>analysis<|message|>yellow<|end|><|start|>assistant<|channel|>final<|message|>Yellow.<|return|>"
    engine = EngineConfig(engine="scripted", script=(tuple(encode_spelled_out(tiny_oss, reply)),))
    with TensorRTLLMAPIDeployable(str(tiny_oss), engine=engine, chat=True) as deployable:
        assert deployable.generate([PROMPT]) == ["Yellow."]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hf_model_id_path": "openai/gpt-oss-120b"}, CheckpointError, "hf download openai/gpt-oss-120b --exclude"),
        (
            {"pipeline_parallel_size": 2},
            ConfigError,
            "pipeline_parallel_size=2 is not supported for GPT-OSS. The only value is 1",
        ),
        ({"backend": "tensorrt"}, ConfigError, "backend='tensorrt'"),
        ({}, ConfigError, "this machine's GPU is: none"),
    ],
)
def test_unsupported_arguments_are_refused(
    arguments: dict[str, Any], error: type[Exception], message: str, tiny_oss: Path
) -> None:
    if torch.cuda.is_available() and not arguments:
        pytest.skip("this machine has a GPU")
    with pytest.raises(error, match=message):
        TensorRTLLMAPIDeployable(**({"hf_model_id_path": str(tiny_oss)} | arguments))


def test_the_triton_server_names_its_extra(tiny_oss: Path) -> None:
    """The default environment has numpy 2 and therefore no pytriton."""
    engine = EngineConfig(engine="scripted", script=((5,),))
    with TensorRTLLMAPIDeployable(str(tiny_oss), engine=engine) as deployable:
        front = DeployPyTriton("gpt-oss", model=deployable)
        with pytest.raises(ConfigError, match=r"Call deploy\(\) first"):
            front.run()
        with pytest.raises(MissingDependencyError, match=r"tuneyard\[triton\]"):
            front.deploy()
    with pytest.raises(ConfigError, match="Pass model="):
        DeployPyTriton("gpt-oss")


def test_an_unreachable_server_is_reported() -> None:
    with pytest.raises(EngineError, match="the model m is not ready after 0 s: ConnectError"):
        NemoQueryTRTLLMAPI("127.0.0.1:9", "m").query_llm(["x"], init_timeout=0)
    with pytest.raises(ConfigError, match="speaks HTTP"):
        NemoQueryTRTLLMAPI("grpc://127.0.0.1:9", "m")
