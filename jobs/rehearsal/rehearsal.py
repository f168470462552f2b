"""A rehearsal from a config to its report: the run's own checks, then the whole run with a small model."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.rehearsal.report import RehearsalReport, StepResult
from jobs.rehearsal.scratch import rehearsal_environment, scratch_folder
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.configs.followup_deployment import load_deployment
from tuneyard.core.config_loading import load_config

NEMO_MISSING = (
    "NeMo is not installed in this environment. Create its environment with `make nemo-env` and rehearse there: "
    ".venv-nemo/bin/tuneyard jobs rehearse CONFIG"
)
NEMO_WITH_TRANSFORMER_ENGINE = (
    "This environment has TransformerEngine, whose layers run on GPUs only. Rehearse in an environment without it: "
    "`make nemo-env` creates one, then .venv-nemo/bin/tuneyard jobs rehearse CONFIG"
)


def rehearse(
    path: Path,
    overrides: Sequence[str],
    *,
    keep: bool = False,
    show: Callable[[StepResult], None],
    begin: Callable[[str], None] = lambda _: None,
    announce: Callable[[str], None] = lambda _: None,
) -> RehearsalReport:
    """Rehearses the run of the config file at `path` and returns what each step found.

    `show` gets each result at once, `begin` the name of each step that starts, `announce` lines about what is rehearsed
    and how. With `keep` the scratch folder stays. All checks of the run itself are made, even if one fails; the small
    run only if none did.
    """
    report = RehearsalReport(show, begin)
    config = report.run("config", lambda: _load(path, overrides), lambda config: f"run {config.run.name!r}")
    if config is None:
        return report
    with scratch_folder(keep=keep) as scratch:
        if keep:
            announce(f"files: {scratch}")
        _rehearse_in(scratch, config, report)
    return report


def _load(path: Path, overrides: Sequence[str]) -> FinetuneConfig:
    config = load_config(FinetuneConfig, path, overrides)
    if config.deploy is not None:
        load_deployment(config)
    return config


def _rehearse_in(scratch: Path, config: FinetuneConfig, report: RehearsalReport) -> None:
    # Only now, because these import torch and transformers: a wrong config is reported at once.
    from jobs.nemo.setup.import_memory import available_bytes
    from jobs.rehearsal import run_checks
    from jobs.rehearsal.layout import fit_layout
    from jobs.rehearsal.small_inputs import build_small_inputs
    from jobs.rehearsal.small_steps import rehearse_small_run, steps_after
    from jobs.rehearsal.training import stage_names
    from jobs.runs.preflight import prepare_data

    if config.wandb is not None:
        report.run("wandb", lambda: run_checks.check_tracking(config))
    if config.deploy is not None:
        report.run("deploy", lambda: run_checks.check_deployment(config), str)
    base = report.run("base", lambda: run_checks.open_base(config), lambda base: str(base.run.model.base))
    if base is None:
        if report.failed:
            return
        base = run_checks.stand_in_base(config, scratch / "stand-in")
    report.run("layout", lambda: run_checks.check_layout(base), lambda _: run_checks.describe_layout(config))
    in_scratch = with_storage(base.run, scratch / "data")
    data = report.run("data", lambda: prepare_data(in_scratch), lambda data: run_checks.describe_data(data, config))
    storage = report.run("storage", lambda: run_checks.check_storage(config, base), str)
    if data is not None and config.workers.use_gpu:
        report.run("gpu memory", lambda: run_checks.check_gpu_memory(base, data), str)
    if data is not None and not run_checks.runs_elsewhere(config):
        report.run("main memory", lambda: run_checks.check_main_memory(config, base, data), str)
    if data is not None and storage is not None and run_checks.has_earlier_run(config):
        report.run("earlier run", lambda: run_checks.check_earlier_run(config, base, data), str)
    if report.failed or data is None:
        return
    layout = fit_layout(config, available_bytes(), len(os.sched_getaffinity(0)))
    small = report.run(
        "small model",
        lambda: build_small_inputs(base, data, layout, scratch),
        lambda small: f"{small.description}; {layout}",
    )
    if small is None:
        return
    uses_nemo = config.training.backend == "nemo"
    if uses_nemo and (reason := nemo_problem()):
        report.skip(steps_after(stage_names(config)), reason)
        return
    with rehearsal_environment(scratch, uses_nemo=uses_nemo):
        rehearse_small_run(report, small.config, scratch)


def nemo_problem() -> str:
    """Why NeMo cannot be rehearsed in this environment, with the way out; "" if it can."""
    if importlib.util.find_spec("nemo") is None:
        return NEMO_MISSING
    if importlib.util.find_spec("transformer_engine") is not None:
        return NEMO_WITH_TRANSFORMER_ENGINE
    return ""


def with_storage(config: FinetuneConfig, storage: Path) -> FinetuneConfig:
    """The config with another `run.storage`."""
    return config.model_copy(update={"run": config.run.model_copy(update={"storage": str(storage)})})
