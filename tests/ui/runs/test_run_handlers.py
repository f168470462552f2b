"""The Runs page's handlers and their client, over the real routes with a real registry."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from html import unescape
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from serve_apps.platform_app.fine_tuning.records.states import RunState
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import BASE, upload
from tests.serve_apps.platform_app.platform_under_test import ADMIN_KEY, PlatformUnderTest
from tests.serve_apps.platform_app.runs.run_world import RunWorld
from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread
from tuneyard.api.wire.platform_api.fine_tuning import FineTuningJobEvent
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.own_jobs import curves_of_events
from ui.endpoints.run_client import NoRunsHereError, RunClient, RunsError
from ui.endpoints.visitor import Visitor
from ui.page_context import PageContext
from ui.runs.run_handlers import OWN_JOBS, RunHandlers, Values
from ui.runs.runs_page import RunsPage


@dataclass
class Tab:
    """Stands in for the browser: holds the value of each component and applies the updates of handlers."""

    handlers: RunHandlers
    query_params: dict[str, str] = field(default_factory=dict)
    values: Values = field(default_factory=dict)
    changed: set[Any] = field(default_factory=set)
    is_visible: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.values = dict.fromkeys(self.handlers.on.given, "")

    def apply(self, updates: Values) -> None:
        self.changed = set(updates)
        for component, update in updates.items():
            if isinstance(update, dict) and update.get("__type__") == "update":
                self.is_visible[component] = update.get("visible", self.is_visible.get(component))
                self.values[component] = update.get("value", self.values.get(component))
            else:
                self.values[component] = update

    async def open(self) -> None:
        self.apply(await self.handlers.open(dict(self.values), self))

    async def tick(self) -> None:
        self.apply(await self.handlers.refresh(dict(self.values), self))

    async def choose(self, run: str) -> None:
        await self.click(run=run)

    async def click(self, **data: str) -> None:
        event = SimpleNamespace(_data=data)
        self.apply(await self.handlers.choose(dict(self.values), event, self))

    def text(self, name: str) -> str:
        return str(self.values.get(getattr(self.handlers.on, name)) or "")


def text_of(html: str) -> str:
    """What people read."""
    return unescape(re.sub(r"<[^>]*>", "", html))


@pytest.fixture
async def chat_client(both: tuple[RunWorld, PlatformUnderTest]) -> AsyncIterator[ChatClient]:
    with serve_in_thread(both[1].api) as root_url:
        client = ChatClient([f"{root_url}/v1"])
        yield client
        await client.aclose()


def open_tab(client: ChatClient, admin_key: str | None = ADMIN_KEY, key: str | None = None) -> Tab:
    with gr.Blocks() as blocks:
        context = PageContext(client=client, title="Test", visitor_of=lambda _: Visitor("someone", key))
        return Tab(RunsPage(context, RunClient(client, admin_key)).build(blocks))


async def test_a_run_moves_and_only_what_moved_is_sent(world: RunWorld, chat_client: ChatClient) -> None:
    run_id = world.begin("first")
    world.job("first", RunState.RUNNING)
    world.log(run_id, range(1, 6), total=40)
    tab = open_tab(chat_client)
    await tab.open()
    assert tab.text("chosen") == run_id
    assert "5 / 40" in tab.text("table")
    assert "at step 5" in tab.text("curves")
    assert text_of(tab.text("details")).count("Hold the **back** button for ten seconds") == 1
    assert "epochs: 2.0" in tab.text("details")
    on = tab.handlers.on
    await tab.tick()
    assert tab.changed.isdisjoint({on.table, on.curves, on.details, on.versions})
    world.log(run_id, range(6, 11), total=40)
    time.sleep(1.1)  # for longer than the routes keep an answer
    await tab.tick()
    assert "10 / 40" in tab.text("table")
    assert "at step 10" in tab.text("curves")
    assert on.details not in tab.changed


async def test_the_end_of_a_run_brings_its_version(world: RunWorld, chat_client: ChatClient) -> None:
    run_id = world.begin("first")
    tab = open_tab(chat_client)
    await tab.open()
    assert "No version is registered yet" in tab.text("versions")
    world.registry.register("brindle", world.folder / "models" / "1", run_id, {"run_name": "first"})
    world.registry.end_run(run_id, succeeded=True)
    time.sleep(1.1)
    await tab.tick()
    assert "brindle/1" in tab.text("versions")
    assert "Done" in tab.text("head")


async def test_another_run_is_chosen_by_click_and_by_address(world: RunWorld, chat_client: ChatClient) -> None:
    one, other = world.begin("first"), world.begin("second")
    tab = open_tab(chat_client)
    await tab.open()
    await tab.choose(one)
    assert "<h2>first</h2>" in tab.text("head")
    for broken in ("gone", "", "<b>"):
        await tab.choose(broken)
        assert tab.text("chosen") == other
    tab = open_tab(chat_client)
    tab.query_params = {"run": one}
    await tab.open()
    assert tab.text("chosen") == one


async def test_the_newest_runs_are_shown_and_all_on_demand(world: RunWorld, chat_client: ChatClient) -> None:
    for number in range(205):
        world.job(f"run-{number:03}", RunState.STOPPED, started_at=float(number))

    def shown(tab: Tab) -> list[str]:
        return re.findall(r">(run-\d+)</button>", tab.text("table"))

    newest_first = [f"run-{number:03}" for number in range(204, -1, -1)]
    tab = open_tab(chat_client)
    await tab.open()
    assert shown(tab) == newest_first[:20]
    assert "Show all 200 runs" in tab.text("table")
    await tab.click(rows="all")
    assert shown(tab) == newest_first[:200]
    await tab.tick()
    assert shown(tab) == newest_first[:200]
    await tab.click(run="raysubmit_50")
    await tab.click(rows="")
    assert shown(tab) == [*newest_first[:20], "run-050"]
    assert "<h2>run-050</h2>" in tab.text("head")
    await tab.click(rows="<b>")
    assert len(shown(tab)) == 21


async def test_an_empty_page_says_how_to_begin(chat_client: ChatClient) -> None:
    tab = open_tab(chat_client)
    await tab.open()
    assert "No run yet" in tab.text("empty")
    assert "tuneyard jobs submit" in tab.text("empty")
    assert tab.is_visible[tab.handlers.on.sections] is False


async def test_without_the_routes_the_page_says_how_to_turn_them_on(endpoint: ScriptedEndpoint) -> None:
    client = ChatClient([endpoint.base_url])
    tab = open_tab(client)
    await tab.open()
    assert "deploy with a section <code>platform</code>" in tab.text("empty")
    with pytest.raises(NoRunsHereError):
        await RunClient(client).runs()
    await client.aclose()


async def test_an_endpoint_that_is_gone_is_a_sentence_and_the_page_stays(
    world: RunWorld, both: tuple[RunWorld, PlatformUnderTest]
) -> None:
    world.begin("first")
    with serve_in_thread(both[1].api) as root_url:
        client = ChatClient([f"{root_url}/v1"])
        tab = open_tab(client)
        await tab.open()
    before = tab.text("table")
    await tab.tick()
    assert "does not answer" in tab.text("problem")
    assert tab.text("table") == before
    with pytest.raises(RunsError, match="does not answer"):
        await RunClient(client).runs()
    await client.aclose()


async def test_an_ordinary_key_sees_its_own_jobs(
    both: tuple[RunWorld, PlatformUnderTest], chat_client: ChatClient
) -> None:
    world, platform = both
    world.begin("secret-run")
    mine, theirs = platform.create_key("mine"), platform.create_key("theirs")
    sdk = platform.sdk(mine)
    job = await sdk.fine_tuning.jobs.create(model=BASE, training_file=await upload(sdk), suffix="polite")
    tab = open_tab(chat_client, admin_key=None, key=mine)
    await tab.open()
    assert tab.text("chosen") == job.id
    assert "polite" in tab.text("table")
    assert "The files are checked." in tab.text("head")
    assert tab.text("problem") == OWN_JOBS
    assert tab.text("details") == ""
    assert tab.is_visible[tab.handlers.on.version_section] is False
    other = open_tab(chat_client, admin_key=None, key=theirs)
    await other.open()
    assert "No fine-tuning job yet" in other.text("empty")
    assert "secret" not in str(tab.values) + str(other.values)
    stranger = open_tab(chat_client, admin_key=None, key="unknown")
    await stranger.open()
    assert "HTTP 401" in stranger.text("problem")


async def test_only_the_administrators_key_is_one(
    both: tuple[RunWorld, PlatformUnderTest], chat_client: ChatClient
) -> None:
    runs = RunClient(chat_client)
    assert await runs.is_admin(ADMIN_KEY)
    assert not await runs.is_admin(both[1].create_key("someone"))
    assert not await runs.is_admin("")


def test_events_of_a_job_become_curves() -> None:
    def event(number: int, step: int, **data: float) -> FineTuningJobEvent:
        return FineTuningJobEvent(
            id=f"ftevent-{number}", created_at=number, level="info", message="", type="metrics",
            data={"step": step, "total_steps": 9} | data,
        )  # fmt: skip

    said = FineTuningJobEvent(id="ftevent-0", created_at=0, level="info", message="Job started.")
    events = [
        event(4, 2, train_loss=1.5),
        event(3, 2, train_loss=9.0, valid_loss=2.0),
        event(1, 1, train_loss=3.0),
        said,
    ]
    curves = {curve.name: curve for curve in curves_of_events("ftjob-1", events).curves}
    assert (curves["loss"].steps, curves["loss"].values) == ((1, 2), (3.0, 1.5))
    assert (curves["eval_loss"].steps, curves["eval_loss"].values) == ((2,), (2.0,))
