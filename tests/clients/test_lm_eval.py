"""lm-eval, unmodified, against a served model: its numbers are those of the model itself."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from serve_apps.engines.engine_factory import create_engine
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.clients.client_list import INSTALLED
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tests.serve_apps.api_client import ANSWER
from tuneyard.configs.engine import EngineConfig
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

pytestmark = pytest.mark.clients

ROWS: list[dict[str, Any]] = [
    {"question": "What does E47 mean?", "choices": ["The filter is dirty", "Nothing", "It is late"], "answer": 0},
    {"question": "May I wash it at 60 °C?", "choices": ["Yes", "No"], "answer": 1},
    {"question": "Wie heißt der größte Vogel? 🐦", "choices": ["Strauß", "Spatz", "Möwe", "Ente"], "answer": 0},
    {"question": "One plus one is", "choices": ["two", "three"], "answer": 0},
]
"""An answer is the number of the right choice."""

MULTIPLE_CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc"}],
}
GENERATION = {
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{choices[answer]}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False},
    "metric_list": [{"metric": "exact_match"}],
}

Evaluate = Callable[..., tuple[dict[str, float], list[dict[str, Any]]]]


@pytest.fixture
def evaluate(tmp_path: Path) -> Evaluate:
    """Runs lm-eval on a task with ROWS, and gives the task's metrics and its samples in the order of the rows."""

    def evaluate(
        task: dict[str, Any], model: str, model_args: dict[str, Any], *options: str, rows: Sequence[Any] = ROWS
    ) -> tuple[dict[str, float], list[dict[str, Any]]]:
        data = tmp_path / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        # JSON is YAML too.
        (tmp_path / "tiny.yaml").write_text(json.dumps({"task": "tiny", **source, **task}), encoding="utf-8")
        command = [str(INSTALLED / "lm_eval" / "bin" / "lm_eval"), "--model", model, "--tasks", "tiny", *options]
        command += ["--model_args", ",".join(f"{name}={value}" for name, value in model_args.items())]
        command += ["--include_path", str(tmp_path), "--output_path", str(tmp_path / "results"), "--log_samples"]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
        done = subprocess.run(
            command,
            env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | offline,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (results,) = (tmp_path / "results").rglob("results_*.json")
        (samples,) = (tmp_path / "results").rglob("samples_*.jsonl")
        by_row = sorted(map(json.loads, samples.read_text("utf-8").splitlines()), key=lambda sample: sample["doc_id"])
        return json.loads(results.read_text("utf-8"))["results"]["tiny"], by_row

    return evaluate


@pytest.fixture(scope="module")
def model_api(tiny_oss: Path) -> Iterator[ServedApi]:
    """The tiny model in the transformers engine."""
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    served = ServedApi(create_engine(EngineConfig(kv_cache_tokens=4096), tiny_oss), codec)
    yield served
    served.stop()


class DirectModel:
    """The checkpoint in transformers, without a server."""

    def __init__(self, checkpoint: Path) -> None:
        self._stop_ids = HarmonyCodec.from_checkpoint(checkpoint, CodecSettings()).stop_token_ids
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
        self._model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()

    def loglikelihood(self, context: str, continuation: str) -> tuple[float, bool]:
        """The sum of the continuation's log-probabilities in nats, and whether each token is the most likely one."""
        ids = self._tokenizer.encode(context + continuation, add_special_tokens=False)
        start = len(self._tokenizer.encode(context, add_special_tokens=False))
        with torch.inference_mode():
            logprobs = self._model(torch.tensor([ids])).logits[0].log_softmax(-1)
        positions = range(start, len(ids))
        total = sum(float(logprobs[position - 1, ids[position]]) for position in positions)
        return total, all(int(logprobs[position - 1].argmax()) == ids[position] for position in positions)

    def continue_greedily(self, prompt: str, max_tokens: int, stop: str) -> str:
        """The most likely text without special tokens, up to a token that ends answers or the stop string."""
        ids = self._tokenizer.encode(prompt, add_special_tokens=False)
        start = len(ids)
        with torch.inference_mode():
            while len(ids) < start + max_tokens and (len(ids) == start or ids[-1] not in self._stop_ids):
                ids.append(int(self._model(torch.tensor([ids])).logits[0, -1].argmax()))
        text: str = self._tokenizer.decode(ids[start:], skip_special_tokens=True)
        return text.partition(stop)[0]


@pytest.fixture(scope="module")
def direct(tiny_oss: Path) -> DirectModel:
    return DirectModel(tiny_oss)


def completions_args(served: ServedApi, checkpoint: Path, **more: Any) -> dict[str, Any]:
    return {"model": "tiny", "base_url": f"{served.root}/v1/completions", "tokenizer": checkpoint} | more


@pytest.mark.parametrize("options", [(), ("--batch_size", "4")], ids=["one", "batch"])
@pytest.mark.parametrize("sends_ids", [True, False], ids=["ids", "text"])
def test_choices_are_scored_as_the_model_scores_them(
    evaluate: Evaluate,
    model_api: ServedApi,
    direct: DirectModel,
    tiny_oss: Path,
    options: tuple[str, ...],
    sends_ids: bool,
) -> None:
    args = completions_args(model_api, tiny_oss, num_concurrent=2, tokenized_requests=sends_ids)
    metrics, samples = evaluate(MULTIPLE_CHOICE, "local-completions", args, *options)
    right = 0
    for row, sample in zip(ROWS, samples, strict=True):
        context = f"Question: {row['question']}\nAnswer:"
        expected = [direct.loglikelihood(context, f" {choice}") for choice in row["choices"]]
        found = [(float(total), str(is_greedy) == "True") for ((total, is_greedy),) in sample["resps"]]
        assert [total for total, _ in found] == pytest.approx([total for total, _ in expected], abs=1e-3)
        assert [is_greedy for _, is_greedy in found] == [is_greedy for _, is_greedy in expected]
        right += max(range(len(expected)), key=lambda number: expected[number][0]) == row["answer"]
    assert metrics["acc,none"] == pytest.approx(right / len(ROWS))


def test_text_is_continued_as_the_model_continues_it(
    evaluate: Evaluate, model_api: ServedApi, direct: DirectModel, tiny_oss: Path
) -> None:
    _, samples = evaluate(GENERATION, "local-completions", completions_args(model_api, tiny_oss))
    for row, sample in zip(ROWS, samples, strict=True):
        ((found,),) = sample["resps"]
        assert found == direct.continue_greedily(row["question"], 12, "\n\n")


def test_chats_are_answered_and_compared(evaluate: Evaluate, tiny_oss: Path) -> None:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    served = ServedApi(ScriptedEngine([encode_spelled_out(tiny_oss, ANSWER)]), codec)
    try:
        args = {"model": "tiny", "base_url": f"{served.root}/v1/chat/completions"}
        rows = [
            ROWS[0] | {"choices": [choice]} for choice in ("Héllo \U0001f389!", "Something else", "Héllo \U0001f389!")
        ]
        metrics, samples = evaluate(
            GENERATION | {"generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 64}},
            "local-chat-completions",
            args,
            "--apply_chat_template",
            "--system_instruction",
            "Be brief.",
            rows=rows,
        )
    finally:
        served.stop()
    assert [sample["resps"] for sample in samples] == [[["Héllo \U0001f389!"]]] * 3
    assert metrics["exact_match,none"] == pytest.approx(2 / 3)
