"""Takes the guide's pictures of the Runs page: `python -m tests.ui.browser.take_runs_screenshots BASE`.

BASE is the folder of a small base model, whose tokenizer renders the rows. The registry, the routes and the run's
folders are real; the losses are drawn. At 1280×800 in light and dark and on a phone, into docs/images. The rows have an
emoji: without a font for it, such as Debian's fonts-noto-color-emoji, a picture shows a box.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric
from playwright.async_api import async_playwright

from serve_apps.platform_app.fine_tuning.records.states import RunState
from tests.serve_apps.platform_app.platform_under_test import ADMIN_KEY
from tests.serve_apps.platform_app.runs.run_world import RunWorld, run_world
from tests.ui.browser.conftest import CHROMIUM
from tests.ui.browser.runs_visit import RunsVisit
from tests.ui.browser.take_screenshots import PHONE, WIDE
from tests.ui.page_process import ROOT, PageServer
from tests.ui.scripted_endpoint import serve_in_thread
from tuneyard.checkpoints.registry import ModelRegistry

KEY_VARIABLE = "RUNS_PAGE_ADMIN_KEY"
STEPS = 60
STEP_S = 9.0
"""Seconds of a step: the pace of the runs, which is drawn too."""


def main() -> int:
    """Writes the pictures; 1 without Chromium."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", type=Path)
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        print("no Chromium here: apt-get install chromium, or set CHROMIUM to its path")
        return 1
    os.environ[KEY_VARIABLE] = ADMIN_KEY
    with tempfile.TemporaryDirectory() as folder:
        home, files = Path(folder, "home"), Path(folder, "files")
        ModelRegistry(home)
        files.mkdir()
        with run_world(files, arguments.base, home) as (world, platform), serve_in_thread(platform.api) as url:
            _fill(world)
            options = ("--base-url", f"{url}/v1", "--admin-key-env", KEY_VARIABLE, "--title", "Brindle support")
            server = PageServer(options)
            server.start()
            try:
                asyncio.run(_take(arguments.folder, server.url))
            finally:
                server.stop()
    return 0


def _fill(world: RunWorld) -> None:
    """A run that is done and served, one that failed, one that trains."""
    now = world.now = time.time()
    done = world.begin("brindle-first")
    _log(world, done, STEPS, now - 3000)
    tags = {"run_name": "brindle-first", "base_name": "smol-oss-135m", "dataset_fingerprint": "5f2c9a7be01d4c33" * 4}
    world.registry.register("brindle", "/models/brindle/1", done, tags | {"metric.eval_loss": "0.8312"})
    world.registry.end_run(done, succeeded=True)
    world.serve("brindle", "brindle/1", "brindle@newest")
    world.job("brindle-first", RunState.SUCCEEDED, started_at=now - 3600, ended_at=now - 3000)
    world.job("brindle-broken", RunState.FAILED, message="data.train: no such file", started_at=now - 1500)
    world.job("brindle-second", RunState.RUNNING, started_at=now - 37 * STEP_S)
    _log(world, world.begin("brindle-second"), 37, now)


def _log(world: RunWorld, run_id: str, steps: int, ended_at: float) -> None:
    """Draws the run's curves, a step each STEP_S."""
    noise = random.Random(7)
    metrics: list[Metric] = []
    for step in range(1, steps + 1):
        fall = math.exp(-step / 14)
        values = {
            "loss": 2.9 * fall + 0.6 + noise.random() * 0.15,
            "learning_rate": 2e-4 * min(1.0, step / 6) * (1 + math.cos(math.pi * step / STEPS)) / 2,
            "tokens_per_s": 880 + noise.random() * 60,
            "epoch": 2 * step / STEPS,
        }
        measured = {"eval_loss": 2.6 * fall + 0.8} if step % 10 == 0 else {}
        time_ms = int((ended_at - (steps - step) * STEP_S) * 1000)
        metrics += [Metric(name, value, time_ms, step) for name, value in (values | measured).items()]
    MlflowClient(world.registry.uri).log_batch(run_id, metrics)


async def _take(folder: Path, url: str) -> None:
    pictures: dict[str, dict[str, Any]] = {
        "runs-page.png": {**WIDE, "color_scheme": "light"},
        "runs-page-dark.png": {**WIDE, "color_scheme": "dark"},
        "runs-page-phone.png": PHONE,
    }
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, profile in pictures.items():
            context = await browser.new_context(**profile)
            visit = await RunsVisit.open(await context.new_page(), url)
            await visit.page.wait_for_selector(".run-tokens")
            await visit.page.wait_for_timeout(1500)
            await visit.page.screenshot(path=folder / name)
            if name == "runs-page.png":
                await visit.page.locator(".run-section").nth(1).scroll_into_view_if_needed()
                await visit.page.evaluate("document.querySelectorAll('.run-section')[1].scrollIntoView()")
                await visit.page.wait_for_timeout(500)
                await visit.page.screenshot(path=folder / "runs-page-tokens.png")
            await context.close()
        await browser.close()


if __name__ == "__main__":
    raise SystemExit(main())
