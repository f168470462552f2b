"""NeMo on two Ray Train workers: train, export, prove, register, serve; and recovery from a killed worker."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path

import httpx
import mlflow
import pytest
import yaml

from jobs.generation.completions import parse_completion
from tests.integration.conftest import STEPS, finetune_command, write_finetune_config
from tests.integration.processes import CHECKOUT, free_port, run, running
from tuneyard.chats.messages import ChatMessage
from tuneyard.checkpoints.validation import validate_adapter, validate_hf_checkpoint
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings

pytestmark = pytest.mark.nemo

SERVING_PYTHON = CHECKOUT / ".venv" / "bin" / "python"

TIE = 0.02
"""Two logits that differ by less may swap their order when the export is rounded to bf16."""

PRINT_TF32_OF_EXPORT_TASK = """\
import os
import sys
from pathlib import Path

import ray.train

from jobs.runs import export_task
from jobs.runs.preflight import prepare_run
from jobs.runs.ray_training import TrainOutcome
from tuneyard.cluster.connection import connect_ray
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config

config = load_config(FinetuneConfig, Path(sys.argv[1]))
prepared = prepare_run(config)
outcome = TrainOutcome(ray.train.Checkpoint("/nowhere"), {})
connect_ray("local")
export_task._export_task = lambda *_: os.environ.get("NVIDIA_TF32_OVERRIDE")
print("TF32", export_task.export_on_ray(config, prepared, outcome, None)[0])
"""


def write_config(folder: Path, base: Path) -> Path:
    """The shipped config for GPT-OSS-20B with LoRA, with other sizes, accelerator and learning rate, for 12 steps."""
    shipped = yaml.safe_load((CHECKOUT / "jobs/configs/gpt_oss_20b_lora.yaml").read_text(encoding="utf-8"))
    training = shipped["training"] | {"learning_rate": 0.01, "max_steps": STEPS}
    return write_finetune_config(folder, base, {"nemo": shipped["nemo"]}, **training)


def logged(home: Path, run_name: str = "tiny", metric: str = "loss") -> list[tuple[int, float]]:
    """The (step, value) points of a run's metric, in the order in which they were logged."""
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny-support")
    runs = client.search_runs([experiment.experiment_id])
    (run_id,) = [entry.info.run_id for entry in runs if entry.info.run_name == run_name]
    points = sorted(client.get_metric_history(run_id, metric), key=lambda point: point.timestamp)
    return [(point.step, point.value) for point in points]


@pytest.fixture(scope="module")
def home(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TUNEYARD_HOME after an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    code, output = run(folder, folder / "home", *finetune_command(write_config(folder, tiny_oss)))
    assert code == 0, output
    assert "registered tiny-support/1" in output
    return folder / "home"


def test_the_result_is_proved(home: Path, tiny_oss: Path) -> None:
    manifest = validate_hf_checkpoint(home / "models" / "tiny-support" / "1", base=tiny_oss)
    assert manifest.proof["mean_kl"] < 0.01
    assert {"nemo-toolkit", "megatron-core"} <= manifest.software.keys()
    losses = [loss for _, loss in logged(home)]
    assert len(losses) == STEPS
    assert losses[-1] < losses[0]


def test_a_killed_worker_changes_no_loss(home: Path, tiny_oss: Path, tmp_path: Path) -> None:
    """Killed after the first checkpoint, the run repeats steps with the losses of an uninterrupted run."""
    command_line = finetune_command(write_config(tmp_path, tiny_oss), "--set", "run.name=killed")
    state = home / "runs" / "killed" / "ray_train" / "checkpoint_manager_snapshot.json"
    with running(tmp_path, home, *command_line) as command:
        command.wait_for(lambda: state.exists() and "checkpoint_" in state.read_text(), "first checkpoint")
        command.kill_training_worker()
        assert command.process.wait(400) == 0, command.output
    uninterrupted = dict(logged(home))
    losses = logged(home, "killed")
    assert {step for step, _ in losses} == set(range(1, STEPS + 1))
    for step, loss in losses:
        assert loss == pytest.approx(uninterrupted[step], rel=1e-5), step
    assert dict(logged(home, "killed", "eval_loss")) == pytest.approx(dict(logged(home, "tiny", "eval_loss")), rel=1e-5)


def test_the_process_of_an_export_starts_without_tf32(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cuBLAS reads the variable once, so it must be there before the task runs any code."""
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)  # Ray's processes would inherit it
    config = write_config(tmp_path, tiny_oss)
    code, output = run(tmp_path, tmp_path / "home", "-c", PRINT_TF32_OF_EXPORT_TASK, str(config))
    assert code == 0, output
    assert "TF32 0" in output.splitlines()


@pytest.mark.skipif(not SERVING_PYTHON.exists(), reason="the default environment .venv does not exist")
def test_the_result_is_served_by_the_serve_app(home: Path, tmp_path: Path) -> None:
    """In the default environment, with another transformers, the trained model passes parity and answers over HTTP."""
    port = free_port()
    config = {
        "http": {"port": port},
        "models": [{"model_id": "tuned", "checkpoint": str(home / "models" / "tiny-support" / "1")}],
    }
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    environment = os.environ | {"TUNEYARD_HOME": str(home), "PYTHONPATH": f"platform{os.pathsep}."}
    command = [str(SERVING_PYTHON), "-W", "ignore", "-m", "serve_apps.deploy", "--address", "local"]
    log = (tmp_path / "serve.log").open("w+")
    process = subprocess.Popen(
        [*command, "--config", str(tmp_path / "serve.yaml")], cwd=CHECKOUT, env=environment, stdout=log, stderr=log
    )
    try:
        answer = _first_answer(process, tmp_path / "serve.log", f"http://127.0.0.1:{port}/v1/chat/completions")
        assert answer["usage"]["completion_tokens"] == 5
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        log.close()
    assert "tuned: parity proved" in (tmp_path / "serve.log").read_text()


def _first_answer(process: subprocess.Popen[bytes], log: Path, url: str) -> dict[str, dict[str, int]]:
    import time

    body = {"model": "tuned", "messages": [{"role": "user", "content": "What does E47 mean?"}], "max_tokens": 5}
    deadline = time.monotonic() + 240
    while "Ctrl-C stops it" not in log.read_text():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    response = httpx.post(url, json=body, timeout=120)
    assert response.status_code == 200, response.text
    answer: dict[str, dict[str, int]] = response.json()
    return answer


def test_generate_uses_the_newest_checkpoint(home: Path, tiny_oss: Path, tmp_path: Path) -> None:
    """With adapters, on the run's two workers; greedy completions equal those of the exported model."""
    import torch
    import transformers

    config = write_config(tmp_path, tiny_oss)
    out = tmp_path / "answers.jsonl"
    prompts = ("--prompt", "What does error E47 mean?", "--prompt", "Hello", "--prompt", "Is there a discount?")
    arguments = ("-m", "jobs.generate", "--config", str(config), "--address", "local", "--max-tokens", "12", *prompts)
    code, output = run(tmp_path, home, *arguments, "--out", str(out))
    assert code == 0, output
    assert f"nemo/step-{STEPS:07d}" in output
    answers = [json.loads(line) for line in out.read_text().splitlines()]
    assert [answer["prompt"] for answer in answers] == [text for text in prompts if text != "--prompt"]

    exported = home / "models" / "tiny-support" / "1"
    model = transformers.GptOssForCausalLM.from_pretrained(exported, dtype=torch.float32, attn_implementation="eager")
    codec = HarmonyCodec.from_checkpoint(exported, CodecSettings())
    for answer in answers[:2]:  # one of each rank
        prompt = codec.render([ChatMessage(role="user", content=answer["prompt"])], ())
        ids = torch.tensor([prompt])
        greedy = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=12,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
        best = [step[0].topk(2).values for step in greedy.logits]
        # In the export, which is rounded to bf16, a tie may go the other way and change all later tokens.
        compared = next((index for index, (first, second) in enumerate(best) if first - second < TIE), len(best))
        assert compared >= 6
        expected = parse_completion(codec, greedy.sequences[0, len(prompt) :][:compared].tolist())
        if compared == len(best):
            assert {name: answer[name] for name in expected} == expected
        else:
            assert answer["content"].startswith(str(expected["content"]))


def test_the_adapter_is_exported_and_merged_later(home: Path, tiny_oss: Path, tmp_path: Path) -> None:
    """The second export reads PEFT's files: the run's own NeMo checkpoint is not needed any more."""
    command = ("-m", "jobs.export", str(home / "runs" / "tiny"), "--form", "adapter", "--address", "local")
    code, output = run(tmp_path, home, *command)
    assert code == 0, output
    assert "registered tiny-support-adapter/1 (@newest)" in output
    folder = home / "models" / "tiny-support-adapter" / "1"
    manifest = validate_adapter(folder, tiny_oss)
    assert manifest.proof["mean_kl"] < 1e-4
    assert "nemo-toolkit" in manifest.software
    code, output = run(tmp_path, home, "-m", "jobs.export", str(folder), "--address", "local")
    assert code == 0, output
    registered = re.search(r"registered (tiny-support/\d+) \(@newest\)", output)
    assert registered is not None, output
    merged = validate_hf_checkpoint(home / "models" / registered[1], base=tiny_oss)
    assert merged.config["training"]["backend"] == "nemo"


def test_an_earlier_checkpoint_is_exported_and_registered(home: Path, tiny_oss: Path, tmp_path: Path) -> None:
    """As a NeMo folder, which any NeMo-Run job could have written; a changed one is not read."""
    step = sorted((home / "runs" / "tiny" / "nemo").glob("step-*"))[0]
    config = write_config(tmp_path, tiny_oss)
    command = ("-m", "jobs.export", str(step), "--config", str(config), "--set", "run.model_name=draft")
    code, output = run(tmp_path, home, *command, "--address", "local")
    assert code == 0, output
    assert "registered draft/1 (@newest)" in output
    manifest = validate_hf_checkpoint(home / "models" / "draft" / "1", base=tiny_oss)
    assert manifest.proof["mean_kl"] < 0.01
    assert manifest.metrics["step"] == int(step.name.rpartition("-")[2]) < STEPS
    assert manifest.digest != validate_hf_checkpoint(home / "models" / "tiny-support" / "1").digest
    common = next((step / "weights").glob("common.pt"))
    content = common.read_bytes()
    try:
        common.write_bytes(content + b" ")
        code, output = run(tmp_path, home, *command, "--address", "local")
    finally:
        common.write_bytes(content)
    assert code == 1
    assert "weights/common.pt changed afterwards" in output
