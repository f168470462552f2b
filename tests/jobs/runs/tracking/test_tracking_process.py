"""The driver's end: nothing that the tracking process does fails a run or holds it up."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from jobs.runs.tracking.messages import Notice, StartMessage
from jobs.runs.tracking.tracking_process import GRACE_S, MAX_WAITING_POINTS, TrackingProcess, process_environment
from tuneyard.configs.experiment_tracking import WandbConfig

START = StartMessage(run_id="r", name="n", folder="f", wandb=WandbConfig(project="p"), settings={"base": "b"})
RECORDS = """
import os, sys
from jobs.runs.tracking.messages import Notice
print(Notice(kind="run", text="https://wandb.example/r").as_line(), end="", flush=True)
lines = []
for line in sys.stdin:
    lines.append(line)
    if '"end"' in line:
        break
open(sys.argv[1], "w").writelines(lines)
"""
READS_NOTHING = "import time; time.sleep(600)"


def run_program(program: str, *arguments: str, timeout_s: float = 20.0) -> tuple[TrackingProcess, list[Notice]]:
    notices: list[Notice] = []
    return TrackingProcess(START, notices.append, (sys.executable, "-c", program, *arguments), timeout_s), notices


def test_the_process_gets_all_and_its_notices_arrive(tmp_path: Path) -> None:
    process, notices = run_program(RECORDS, str(tmp_path / "lines"))
    process.log_points([(1, {"loss": 2.0}), (2, {"loss": 1.5, "eval_loss": 1.25})])
    process.end({"state": "succeeded"}, succeeded=True)
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["start", "point", "point", "end"]
    assert lines[2]["metrics"] == {"loss": 1.5, "eval_loss": 1.25}
    assert [(notice.kind, notice.text) for notice in notices] == [("run", "https://wandb.example/r")]


def test_a_process_that_hangs_is_killed_and_costs_a_warning() -> None:
    process, notices = run_program(READS_NOTHING, timeout_s=0.5)
    began = time.monotonic()
    for step in range(2 * MAX_WAITING_POINTS):
        process.log_points([(step, {"loss": 1.0, "epoch": 0.5})])
    logged = time.monotonic()
    process.end({}, succeeded=True)
    assert time.monotonic() - logged < 0.5 + 2 * GRACE_S + 1
    assert logged - began < 20
    assert [notice.kind for notice in notices] == ["warning"]
    assert notices[0].text == f"it takes no metrics; {MAX_WAITING_POINTS} points wait, and further ones are not sent"


def test_a_process_that_hangs_at_the_end_is_killed() -> None:
    process, notices = run_program("import sys, time; sys.stdin.read(); time.sleep(600)", timeout_s=0.2)
    process.end({}, succeeded=True)
    assert [notice.text for notice in notices] == ["it did not take everything in 0.2 s"]


def test_a_process_that_dies_costs_a_warning() -> None:
    process, notices = run_program("raise SystemExit(3)")
    for step in range(100):
        process.log_points([(step, {"loss": 1.0})])
    process.end({}, succeeded=False)
    assert [notice.text for notice in notices] == ["its process ended with exit code 3"]


def test_a_notice_that_cannot_be_noted_fails_nothing(tmp_path: Path) -> None:
    def refuse(_: Notice) -> None:
        raise OSError("the registry is lost")

    process = TrackingProcess(START, refuse, (sys.executable, "-c", RECORDS, str(tmp_path / "lines")))
    process.end({}, succeeded=True)
    assert len((tmp_path / "lines").read_text().splitlines()) == 2


def test_the_process_has_no_secret_but_that_of_its_service() -> None:
    environment = {
        "WANDB_API_KEY": "w",
        "HTTPS_PROXY": "http://proxy",
        "no_proxy": "10.0.0.1",
        "HOME": "/home/x",
        "AWS_SECRET_ACCESS_KEY": "a",
        "HF_TOKEN": "h",
        "MLFLOW_TRACKING_PASSWORD": "m",
        "TUNEYARD_ADMIN_KEY": "t",
    }
    passed = process_environment(environment)
    assert passed.pop("WANDB_ERROR_REPORTING") == "false"
    assert passed.keys() == {"WANDB_API_KEY", "HTTPS_PROXY", "no_proxy", "HOME", "PYTHONPATH"}
