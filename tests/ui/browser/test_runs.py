"""The Runs page in a real browser, over the real routes, a real registry and a run that goes on meanwhile."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, expect

from serve_apps.platform_app.fine_tuning.records.states import RunState
from tests.serve_apps.platform_app.platform_under_test import ADMIN_KEY
from tests.serve_apps.platform_app.runs.run_world import RunWorld, run_world
from tests.ui.browser.runs_visit import RunsVisit
from tests.ui.page_process import PageServer
from tests.ui.scripted_endpoint import serve_in_thread

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

KEY_VARIABLE = "RUNS_PAGE_ADMIN_KEY"


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_oss: Path, empty_home: Path) -> Iterator[tuple[RunWorld, str]]:
    """Two runs, one done and one that trains, and the URL of the API that tells of them."""
    with run_world(tmp_path_factory.mktemp("world"), tiny_oss, empty_home) as (made, platform):
        made.now = time.time()
        done = made.begin("brindle-first")
        made.log(done, range(1, 21), total=20)
        made.registry.register("brindle", made.folder / "models" / "1", done, {"run_name": "brindle-first"})
        made.registry.end_run(done, succeeded=True)
        made.job("brindle-broken", RunState.FAILED, message="data.train: no such file", started_at=made.now - 90)
        made.job("brindle-second", RunState.RUNNING, started_at=made.now)
        made.log(made.begin("brindle-second"), range(1, 6), total=400)
        with serve_in_thread(platform.api) as root_url:
            yield made, f"{root_url}/v1"


@pytest.fixture
def running(world: tuple[RunWorld, str]) -> str:
    """The id of the run that trains; each test may go on with it."""
    run = world[0].registry.newest_run("brindle")
    assert run is not None
    return run.run_id


def last_step(world: RunWorld, run_id: str) -> int:
    run = world.registry.run(run_id)
    assert run is not None
    return run.latest["loss"].step


@pytest.fixture(scope="session")
def runs_server(world: tuple[RunWorld, str]) -> Iterator[PageServer]:
    """A page with the administrators' key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY_VARIABLE, ADMIN_KEY)
        server = PageServer(("--base-url", world[1], "--admin-key-env", KEY_VARIABLE, "--title", "Brindle"))
        server.start()
    yield server
    server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def visit(page: Page, runs_server: PageServer) -> AsyncIterator[RunsVisit]:
    opened = await RunsVisit.open(page, runs_server.url)
    yield opened
    opened.check_console()


async def test_the_curves_of_a_running_run_move(visit: RunsVisit, world: tuple[RunWorld, str], running: str) -> None:
    loss = visit.chart("Loss").locator("svg")
    await expect(visit.page.locator("#run-head h2")).to_have_text("brindle-second")
    await expect(loss).to_be_visible()
    before = await loss.locator("polyline").first.get_attribute("points")
    step = last_step(world[0], running)
    world[0].log(running, range(step + 1, step + 11), total=400)
    await expect(visit.row("brindle-second")).to_contain_text(f"{step + 10} / 400")
    await expect(loss).to_have_attribute("aria-label", f"Loss: training from 3.5 to {3 / (step + 10) + 0.5:.4g} at "
                                         f"step {step + 10}; held-out from 1.3 to {3.5 / (step + 10) + 0.6:.4g} at "
                                         f"step {step + 10}")  # fmt: skip
    after = await loss.locator("polyline").first.get_attribute("points")
    assert before is not None
    assert after is not None
    assert len(after.split()) == len(before.split()) + 10
    await expect(visit.page.locator("#run-head")).to_contain_text("Time left")


async def test_a_run_is_chosen_by_keyboard_and_keeps_the_focus(
    visit: RunsVisit, world: tuple[RunWorld, str], running: str
) -> None:
    button = visit.row("brindle-first").get_by_role("button")
    await button.focus()
    await visit.page.keyboard.press("Enter")
    await expect(visit.page.locator("#run-head h2")).to_have_text("brindle-first")
    await expect(button).to_have_attribute("aria-pressed", "true")
    step = last_step(world[0], running)
    world[0].log(running, [step + 1], total=400)
    await expect(visit.row("brindle-second")).to_contain_text(f"{step + 1} / 400")
    await expect(button).to_be_focused()


async def test_a_run_shows_its_data_its_tokens_and_its_config(visit: RunsVisit) -> None:
    tokens = visit.page.locator(".run-tokens").first
    trained = await tokens.locator(".run-trained").all_inner_texts()
    assert "Hold the **back** button for ten seconds. 🐈" in "".join(trained)
    assert "How do I reset" not in "".join(trained)
    await expect(tokens).to_contain_text("How do I reset my Brindle?")
    await expect(visit.page.locator("#run-details")).to_contain_text("Chats")
    await visit.page.get_by_text("Show all fields").click()
    await expect(visit.page.locator(".run-config pre")).to_contain_text("model_name: brindle")
    await visit.page.wait_for_timeout(2500)  # longer than the page waits between two looks
    await expect(visit.page.locator(".run-config pre")).to_be_visible()


async def test_why_a_run_failed_and_which_version_a_run_made(visit: RunsVisit) -> None:
    await visit.row("brindle-broken").get_by_role("button").click()
    await expect(visit.page.locator("#run-head")).to_contain_text("data.train: no such file")
    version = visit.page.locator(".run-versions tbody tr").filter(has_text="brindle/1")
    await expect(version).to_contain_text("@newest")
    await version.get_by_role("button", name="brindle-first").click()
    await expect(visit.page.locator("#run-head h2")).to_have_text("brindle-first")


async def test_values_under_the_pointer(visit: RunsVisit) -> None:
    chart = visit.chart("Loss")
    box = await chart.locator("svg").bounding_box()
    assert box is not None
    await visit.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 40)
    await expect(chart.locator(".run-values")).to_contain_text("Step ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_has_no_serious_findings(browser: Browser, runs_server: PageServer, scheme: Any) -> None:
    context = await browser.new_context(color_scheme=scheme, viewport={"width": 1280, "height": 800})
    visit = await RunsVisit.open(await context.new_page(), runs_server.url)
    await expect(visit.page.locator(".run-tokens").first).to_be_visible()
    await visit.check_axe()
    visit.check_console()
    await context.close()


async def test_a_phone_shows_it_without_scrolling_sideways(phone: BrowserContext, runs_server: PageServer) -> None:
    visit = await RunsVisit.open(await phone.new_page(), runs_server.url)
    await expect(visit.page.locator(".run-versions").first).to_be_visible()
    assert await visit.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    scroller = visit.page.locator("#runs-scroll")
    assert await scroller.evaluate("element => element.scrollWidth <= element.clientWidth")
    await visit.check_axe()
    visit.check_console()


async def test_older_runs_are_shown_on_request_by_keyboard(visit: RunsVisit, world: tuple[RunWorld, str]) -> None:
    made = world[0]
    before = list(made.jobs.jobs)
    for number in range(25):
        made.job(f"older-{number}", RunState.STOPPED, started_at=100.0 + number)
    try:
        rows = visit.page.locator("#run-table tbody tr")
        await visit.page.get_by_role("button", name="Show all 28 runs").press("Enter")
        await expect(rows).to_have_count(28)
        fewer = visit.page.get_by_role("button", name="Show the newest 20")
        await expect(fewer).to_be_focused()
        await fewer.press("Enter")
        await expect(rows).to_have_count(20)
    finally:
        made.jobs.jobs[:] = before


async def test_an_endpoint_without_runs_says_how_to_turn_them_on(page: Page, server: PageServer) -> None:
    visit = await RunsVisit.open(page, server.url)
    title = visit.page.locator(".run-empty h2")
    await expect(visit.page.locator(".run-empty")).to_contain_text("deploy with a section platform")
    await expect(visit.page.locator(".run-empty code")).to_have_text(["platform", "platform: {}"])
    # Gradio's reset of headings comes after our style sheet.
    assert await title.evaluate("title => getComputedStyle(title).fontSize") == "24px"
    await visit.page.get_by_role("link", name="Chat").click()
    await expect(visit.page.locator(".ty-composer textarea")).to_be_visible()
