"""`tuneyard jobs rehearse` on a private Ray: all steps of a run of the transformers backend, a worker killed once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from jobs.rehearsal.scratch import PREFIX
from jobs.workers.ray_train_context import WORK_DIR_PREFIX
from tests.integration.conftest import write_finetune_config
from tests.integration.processes import Command, running

pytestmark = pytest.mark.integration

STEPS = ["config", "base", "layout", "data", "storage", "main memory", "small model", "prepare", "ray", "train"]
LAST_STEPS = ["checkpoint", "resume", "export", "register", "serve"]


def command(config: Path, *more: str) -> tuple[str, ...]:
    return ("-m", "tuneyard.cli.main", "jobs", "rehearse", str(config), *more)


def scratch_folders(rehearsal: Command) -> list[Path]:
    """What the rehearsal has in the folder for temporary files."""
    return list(Path(tempfile.gettempdir()).glob(f"{PREFIX}{rehearsal.process.pid}-*"))


def work_dirs(rehearsal: Command) -> list[Path]:
    """The scratch folders of the rehearsal's workers, wherever they are."""
    return [
        folder
        for place in (Path(tempfile.gettempdir()), *(folder / "tmp" for folder in scratch_folders(rehearsal)))
        for worker in rehearsal.descendants("RayTrain")
        for folder in place.glob(f"{WORK_DIR_PREFIX}{worker.pid}-*")
    ]


def report_of(rehearsal: Command) -> dict[str, Any]:
    """The JSON report at the end of the output, which also holds standard error."""
    lines = rehearsal.output.splitlines()
    found: dict[str, Any] = json.loads("\n".join(lines[lines.index("{") :]))
    return found


def test_a_run_is_rehearsed_from_its_config_to_the_checks_of_serving(tiny_oss: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    config = write_finetune_config(tmp_path, tiny_oss)
    with running(tmp_path, home, *command(config, "--json")) as rehearsal:
        assert rehearsal.process.wait(400) == 0, rehearsal.output
        report = report_of(rehearsal)
        assert scratch_folders(rehearsal) == []
    assert report["passed"], report
    assert [step["name"] for step in report["steps"]] == [*STEPS, *LAST_STEPS]
    assert {step["status"] for step in report["steps"]} == {"passed"}
    texts = {step["name"]: step["text"] for step in report["steps"]}
    assert "2 workers" in texts["small model"]
    assert "a worker was killed; the run continued from the checkpoint of step" in texts["resume"]
    assert "mean KL" in texts["export"]
    assert "tensorrt_llm" in texts["serve"]
    # Nothing reaches the registry and the storage of the run.
    assert not (home / "mlflow.db").exists()
    assert not (home / "models").exists()
    assert not (home / "runs").exists()


def test_a_run_for_gpus_elsewhere_is_rehearsed_with_the_published_sizes(tmp_path: Path) -> None:
    """Neither its GPUs nor its base are here. Its experts have adapters, and its base the published form."""
    workers = {"num_workers": 3, "use_gpu": True, "accelerator_type": "H100", "resources_per_worker": {"train": 1}}
    lora = {"rank": 4, "experts": True, "last_layers": 12}
    config = write_finetune_config(tmp_path, Path("/nowhere/gpt-oss-20b"), {"workers": workers}, lora=lora)
    with running(tmp_path, tmp_path / "home", *command(config, "--json")) as rehearsal:
        assert rehearsal.process.wait(400) == 0, rehearsal.output
    report = report_of(rehearsal)
    assert report["passed"]
    steps = {step["name"]: step for step in report["steps"]}
    assert steps["base"]["status"] == "not rehearsed"
    assert "/nowhere/gpt-oss-20b is not on this machine" in steps["base"]["text"]
    assert "GiB on each GPU" in steps["gpu memory"]["text"]
    assert "experts in MXFP4" in steps["small model"]["text"]
    assert "3 workers" in steps["small model"]["text"]
    assert steps["resume"]["status"] == "passed"
    assert "not rehearsed: base" in rehearsal.output


def test_ctrl_c_leaves_nothing(tiny_oss: Path, tmp_path: Path) -> None:
    config = write_finetune_config(tmp_path, tiny_oss)
    with running(tmp_path, tmp_path / "home", *command(config)) as rehearsal:
        rehearsal.wait_for(lambda: "✓ ray" in rehearsal.output and bool(rehearsal.descendants("RayTrain")), "training")
        assert len(scratch_folders(rehearsal)) == 1
        # The workers, once they have folders of their own: Ray kills them, so they delete nothing.
        rehearsal.wait_for(lambda: bool(work_dirs(rehearsal)), "a worker's folder")
        assert all(folder.is_relative_to(scratch_folders(rehearsal)[0]) for folder in work_dirs(rehearsal))
        workers = [process.pid for process in rehearsal.descendants("RayTrain")]
        assert rehearsal.interrupt() == 130
        shared = Path(tempfile.gettempdir())
        assert [folder for pid in workers for folder in shared.glob(f"{WORK_DIR_PREFIX}{pid}-*")] == []
        assert scratch_folders(rehearsal) == []
    assert "Interrupted" in rehearsal.output
    assert "Traceback" not in rehearsal.output
