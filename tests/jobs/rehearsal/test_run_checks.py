"""What a rehearsal says about a run's base, data, layout and storage: the right words for what people get wrong."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.rehearsal.rehearsal import rehearse
from jobs.rehearsal.report import RehearsalReport, StepResult
from jobs.runs.run_record import RunFolder
from tests.mxfp4_base import download_mxfp4
from tuneyard.checkpoints.layout.json_files import read_json, write_json
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.config_loading import load_config

CONFIGS = Path("jobs/configs")
SHARED = "run.storage=/srv/tuneyard"
"""A folder that all nodes could share. A rehearsal writes nothing there."""
PUBLISHED: dict[str, Any] = json.loads(Path("tests/gpu/gpt_oss_20b_config.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def base(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the config.json of gpt-oss-20b and a small tokenizer, and no weights."""
    folder = tmp_path_factory.mktemp("base")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(tiny_oss / name, folder)
    write_json(folder / "config.json", PUBLISHED)
    return folder


def rehearsed(name: str, *overrides: str) -> RehearsalReport:
    return rehearse(CONFIGS / f"{name}.yaml", overrides, show=lambda _: None)


def only_failure(report: RehearsalReport) -> tuple[str, str]:
    assert not report.passed
    (failed,) = report.failed
    return failed.name, failed.text


def step_of(report: RehearsalReport, name: str) -> StepResult:
    return next(result for result in report.results if result.name == name)


@pytest.mark.parametrize(
    ("name", "overrides", "step", "words"),
    [
        (
            "gpt_oss_20b_full",
            ["nemo.pipeline_parallel=5", "nemo.expert_parallel=1", "workers.num_workers=5"],
            "layout",
            "24 layers cannot be divided by pipeline parallelism 5. Set nemo.pipeline_parallel to a divisor of 24",
        ),
        (
            "gpt_oss_20b_lora",
            ["nemo.context_parallel=3", "workers.num_workers=3"],
            "layout",
            "8 key-value heads cannot be divided by context parallelism 3",
        ),
        (
            "gpt_oss_20b_lora",
            ["workers.num_workers=9"],
            "layout",
            "9 workers cannot be distributed evenly over 2 nodes of 8 GPUs",
        ),
        (
            "gpt_oss_20b_lora",
            ["training.lora.experts=true"],
            "config",
            "training.backend=nemo does not support training.lora.experts",
        ),
        (
            "gpt_oss_20b_lora",
            ["data.max_length=64"],
            "data",
            "longer than data.max_length=64",
        ),
        ("gpt_oss_20b_lora", ["run.storage=/proc"], "storage", "/proc cannot be written on"),
        ("gpt_oss_20b_lora", ["run.storage=s3://bucket/x"], "config", "Instead of a URI, give a mounted one"),
        (
            "gpt_oss_20b_lora",
            ["nemo.gpus_per_node=2", "run.storage=/tmp/tuneyard-rehearsed"],
            "storage",
            "is a folder that every node has for itself, and this run needs 4 nodes",
        ),
    ],
)
def test_a_broken_variant_fails_at_its_step_with_the_fix(
    name: str, overrides: list[str], step: str, words: str, base: Path
) -> None:
    storage = [] if any(o.startswith("run.storage") for o in overrides) else [SHARED]
    failed, text = only_failure(rehearsed(name, f"model.base={base}", *storage, *overrides))
    assert failed == step
    assert words in text
    assert not Path("/tmp/tuneyard-rehearsed").exists()


def test_an_unusable_row_is_named(base: Path, tmp_path: Path) -> None:
    rows = [[("user", "hi"), ("assistant", "hello")], [("user", "hi"), ("narrator", "…")]]
    data = tmp_path / "chats.jsonl"
    data.write_text("\n".join(json.dumps({"messages": [{"role": r, "content": c} for r, c in row]}) for row in rows))
    report = rehearsed(
        "gpt_oss_20b_lora", f"model.base={base}", f"data.train={data}", "data.heldout=null", f"run.storage={tmp_path}"
    )
    step, text = only_failure(report)
    assert step == "data"
    assert "chats.jsonl:2" in text
    assert "narrator" in text


def test_every_wrong_check_is_reported_and_no_small_run_starts(base: Path) -> None:
    report = rehearsed(
        "gpt_oss_20b_lora", f"model.base={base}", "run.storage=/proc", "data.max_length=64", "workers.num_workers=9"
    )
    assert [result.name for result in report.failed] == ["layout", "data", "storage"]
    assert report.verdict().startswith("the run would fail at the step 'layout'")
    assert "small model" not in [result.name for result in report.results]


def test_a_base_of_another_architecture_is_refused(tiny_oss_copy: Path, tmp_path: Path) -> None:
    (tiny_oss_copy / "manifest.json").unlink()
    write_json(tiny_oss_copy / "config.json", read_json(tiny_oss_copy / "config.json") | {"architectures": ["Llama"]})
    report = rehearsed("gpt_oss_20b_lora", f"model.base={tiny_oss_copy}", f"run.storage={tmp_path}")
    assert only_failure(report)[0] == "base"


def test_a_missing_base_fails_where_the_run_would_be(tmp_path: Path) -> None:
    """A run on CPUs is for this machine."""
    report = rehearsed("demo_cpu", f"model.base={tmp_path / 'smol-oss-135m'}", f"run.storage={tmp_path}")
    step, text = only_failure(report)
    assert step == "base"
    assert "python -m jobs.build_base_model smol-oss-135m" in text


def test_a_base_that_is_not_complete_fails_where_the_run_would_be(tiny_oss: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    download_mxfp4(tiny_oss, base)
    lost = sorted(base.glob("*.safetensors"))[1]
    lost.unlink()
    step, text = only_failure(rehearsed("demo_cpu", f"model.base={base}", f"run.storage={tmp_path}"))
    assert step == "base"
    assert f"lacks {lost.name}, so its download is not complete" in text


def test_nothing_is_written_to_the_runs_storage(base: Path, tmp_path: Path) -> None:
    storage = tmp_path / "storage"
    storage.mkdir()
    rehearsed("gpt_oss_20b_lora", f"model.base={base}", f"run.storage={storage}", "data.max_length=64")
    assert list(storage.iterdir()) == []


def deployment(folder: Path, other: str) -> Path:
    """A deployment of the demo's model and another one."""
    path = folder / "serve.yaml"
    path.write_text(
        "models:\n- {model_id: own, checkpoint: brindle-support@newest}\n"
        f"- {{model_id: other, checkpoint: {other}, route_prefix: /other}}\n"
    )
    return path


def test_a_deployment_with_a_model_that_does_not_exist_fails_before_the_run(tiny_oss: Path, tmp_path: Path) -> None:
    """The run itself would find that only when it has trained."""
    config = deployment(tmp_path, "/nowhere/base")
    run = ["demo_cpu", f"model.base={tiny_oss}", f"run.storage={tmp_path}", f"deploy={config}", "data.max_length=32"]
    deploy = step_of(rehearsed(*run), "deploy")
    assert deploy.status == "failed"
    assert "also serves /nowhere/base" in deploy.text
    elsewhere = step_of(rehearsed(*run, "workers.use_gpu=true"), "deploy")
    assert elsewhere.status == "not rehearsed"
    deployment(tmp_path, str(tiny_oss))
    deploy = step_of(rehearsed(*run), "deploy")
    assert (deploy.status, deploy.text) == ("passed", "brindle-support@newest and 1 other model")


def test_a_run_that_reports_to_wandb_needs_its_package_and_key(
    tiny_oss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = ["demo_cpu", f"model.base={tiny_oss}", f"run.storage={tmp_path}", "wandb.project=acme", "data.max_length=32"]
    failed = rehearsed(*run).failed[0]
    assert failed.name == "wandb"
    assert "or remove wandb" in failed.text


def test_the_name_of_a_run_with_other_inputs_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    config = load_config(FinetuneConfig, CONFIGS / "demo_cpu.yaml", [f"run.storage={tmp_path}"])
    RunFolder.open(config, "a" * 64)
    # With so many rows the run is refused for its main memory: only the checks are of interest.
    run = ["demo_cpu", f"model.base={tiny_oss}", f"run.storage={tmp_path}", "training.batch_size_per_worker=1000000"]
    report = rehearsed(*run)
    assert [result.name for result in report.failed] == ["main memory", "earlier run"]
    assert "of main memory to load and train the model, but the node has" in report.failed[0].text
    assert "was started with other data, base, codec or training settings (inputs aaaaaaaaaaaa" in report.failed[1].text
    assert [result.name for result in rehearsed(*run, "run.resume=false").failed] == ["main memory"]
    assert [result.name for result in rehearsed(*run, "run.name=another").failed] == ["main memory"]


def test_the_storage_of_a_variable_that_is_not_set_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    run = ["demo_cpu", f"model.base={tiny_oss}", f"run.storage={tmp_path}/$NO_SUCH_VARIABLE/runs", "data.max_length=32"]
    storage = step_of(rehearsed(*run), "storage")
    assert storage.status == "failed"
    assert "names the environment variable NO_SUCH_VARIABLE, which is not set" in storage.text
    elsewhere = step_of(rehearsed(*run, "workers.use_gpu=true"), "storage")
    assert elsewhere.status == "not rehearsed"


@pytest.mark.parametrize("name", ["gpt_oss_20b_lora", "gpt_oss_20b_full", "gpt_oss_120b_lora"])
def test_tensor_parallelism_is_refused_before_workers_are_counted(name: str, base: Path) -> None:
    """fit_layout cannot shorten it."""
    sizes = ["nemo.tensor_parallel=8", "nemo.pipeline_parallel=1", "nemo.expert_parallel=1", "workers.num_workers=8"]
    step, text = only_failure(rehearsed(name, f"model.base={base}", SHARED, *sizes))
    assert step == "layout"
    assert "Set nemo.tensor_parallel to 1" in text


@pytest.mark.skipif(importlib.util.find_spec("nemo") is not None, reason="NeMo is installed here")
def test_a_nemo_run_where_nemo_is_missing_does_not_pass(base: Path) -> None:
    report = rehearsed("gpt_oss_20b_lora", f"model.base={base}", SHARED)
    assert not report.failed
    assert not report.passed
    statuses = {result.name: result.status for result in report.results}
    assert statuses["small model"] == "passed"
    left_out = ["prepare", "ray", "import", "train", "checkpoint", "resume", "export", "register", "serve"]
    assert [result.name for result in report.not_rehearsed] == left_out
    assert "make nemo-env" in report.not_rehearsed[0].text
    assert report.verdict().endswith(f"not rehearsed: {', '.join(left_out)}")
