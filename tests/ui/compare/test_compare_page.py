from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from tests.ui.compare.two_models import ANSWERS, BASE, TUNED, TwoModels
from tests.ui.scripted_endpoint import serve_in_thread
from ui.compare.compare_handlers import GONE, TOO_FEW, CompareHandlers, Values
from ui.compare.compare_page import ComparePage
from ui.compare.votes.endpoint_votes import EndpointVotes
from ui.compare.votes.vote_file import VoteFile
from ui.endpoints.chat_client import ChatClient
from ui.page_context import PageContext

QUESTION = "How do I reset it?"


@dataclass
class Tab:
    """Stands in for the browser: holds the value of each component and applies the updates of handlers."""

    handlers: CompareHandlers
    session_hash: str = "a-session"
    values: Values = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    """Everything that went to the browser, as text."""

    def __post_init__(self) -> None:
        on = self.handlers.on
        self.values = {
            on.token: "", on.models: [], on.is_blind: False, on.reason: "", on.question: "", on.board: "",
            on.history: "", on.system_prompt: "Be brief.", on.temperature: 0, on.max_tokens: 0, on.effort: "",
        }  # fmt: skip

    def apply(self, updates: Values) -> None:
        assert updates, "Gradio shows an error for an update of nothing"
        for component, update in updates.items():
            self.sent.append(json.dumps(update, default=str))
            if isinstance(update, dict) and update.get("__type__") == "update":
                if "value" in update:
                    self.values[component] = update["value"]
            else:
                self.values[component] = update

    async def follow(self, updates: AsyncGenerator[Values, None]) -> None:
        async for update in updates:
            self.apply(update)

    async def open(self) -> None:
        self.apply(await self.handlers.load_models(self.values, self))

    async def ask(self, question: str = QUESTION) -> None:
        self.values[self.handlers.on.question] = question
        await self.follow(self.handlers.ask(dict(self.values), self))
        await self.follow(self.handlers.follow(self))
        self.apply(await self.handlers.settle(self))

    async def vote(self, outcome: Any, preferred: int | None = None) -> None:
        self.apply(await self.handlers.vote(outcome, preferred)(dict(self.values), self))

    async def correct(self, side: int, text: Any) -> None:
        event = SimpleNamespace(_data={"act": "correct", "side": side, "text": text})
        self.apply(await self.handlers.correct(dict(self.values), event, self))

    @property
    def board(self) -> str:
        return str(self.values[self.handlers.on.board])

    @property
    def problem(self) -> str:
        return str(self.values.get(self.handlers.on.problem, ""))

    def position_of(self, model: str) -> int:
        """On which side a model's answer is."""
        marker = ANSWERS[model].split("**")[1]
        other = ANSWERS[TUNED if model == BASE else BASE].split("**")[1]
        return int(self.board.index(marker) > self.board.index(other))


@pytest.fixture
def models() -> TwoModels:
    return TwoModels(models=[BASE, TUNED])


@pytest.fixture
async def handlers(models: TwoModels, tmp_path: Path) -> AsyncIterator[CompareHandlers]:
    with serve_in_thread(models.build_app()) as root_url:
        models.base_url = f"{root_url}/v1"
        client = ChatClient([models.base_url])
        with gr.Blocks() as blocks:
            yield ComparePage(PageContext(client=client, title="Test"), VoteFile(tmp_path / "votes.jsonl")).build(
                blocks
            )
        await client.aclose()


@pytest.fixture
async def tab(handlers: CompareHandlers) -> Tab:
    opened = Tab(handlers)
    await opened.open()
    return opened


async def test_the_first_two_models_are_chosen_and_a_choice_stays(tab: Tab, models: TwoModels) -> None:
    assert tab.values[tab.handlers.on.models] == [f"{models.base_url} {BASE}", f"{models.base_url} {TUNED}"]
    chosen = [f"{models.base_url} {TUNED}", f"{models.base_url} gone"]
    tab.values[tab.handlers.on.models] = chosen
    await tab.open()
    assert tab.values[tab.handlers.on.models] == chosen[:1]
    assert "No longer served: gone." in tab.problem
    await tab.ask()
    assert tab.problem == TOO_FEW


async def test_both_models_answer_the_same_question(tab: Tab, models: TwoModels) -> None:
    await tab.ask()
    assert sorted(request["model"] for request in models.requests) == [TUNED, BASE]
    assert {json.dumps(request["messages"]) for request in models.requests} == {
        json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}])
    }
    assert (tab.position_of(BASE), tab.position_of(TUNED)) == (0, 1)
    assert "<mark>ten</mark>" in tab.board
    assert BASE in tab.board


async def test_one_model_that_fails_leaves_the_other_alone(tab: Tab, models: TwoModels) -> None:
    tab.values[tab.handlers.on.models] = [f"{models.base_url} {BASE}", "http://127.0.0.1:9/v1 nowhere"]
    await tab.ask()
    assert "hold the reset button" in tab.board
    assert "was not started with that --base-url" in tab.board


async def test_a_blind_vote_reveals_the_names_and_is_kept(tab: Tab, tmp_path: Path) -> None:
    tab.values[tab.handlers.on.is_blind] = True
    tab.sent.clear()
    await tab.ask()
    secret = [text for text in tab.sent if BASE in text or TUNED in text]
    assert secret == [], "names went to the browser before the vote"
    tab.values[tab.handlers.on.reason] = "It names the right light."
    winner = tab.position_of(TUNED)
    await tab.vote("preferred", winner)
    assert f"You chose {'AB'[winner]}: <b>{TUNED}</b>." in tab.values[tab.handlers.on.voted]
    assert BASE in tab.board
    (kept,) = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert kept["blind"] is True
    assert kept["reason"] == "It names the right light."
    assert kept["answers"][kept["preferred"]]["model"] == TUNED
    assert kept["input"]["messages"][-1]["content"] == QUESTION
    assert kept["metadata"] == {"temperature": "0"}
    assert "1 : 0" in tab.values[tab.handlers.on.win_rates]


async def test_a_vote_that_is_taken_back_does_not_count_and_the_next_is_not_blind(tab: Tab, tmp_path: Path) -> None:
    tab.values[tab.handlers.on.is_blind] = True
    await tab.ask()
    await tab.vote("tie")
    tab.apply(await tab.handlers.undo_vote(dict(tab.values), tab))
    await tab.vote("both_bad")
    lines = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["object"] for line in lines] == ["vote", "vote.deleted", "vote"]
    assert lines[-1]["blind"] is False


async def test_a_second_click_is_no_second_vote(tab: Tab, tmp_path: Path) -> None:
    await tab.ask()
    await tab.vote("tie")
    await tab.vote("both_bad")
    assert (tmp_path / "votes.jsonl").read_text(encoding="utf-8").count("\n") == 1


async def test_a_follow_up_after_a_vote_goes_on_from_the_preferred_answer(tab: Tab, models: TwoModels) -> None:
    await tab.ask()
    await tab.vote("preferred", tab.position_of(TUNED))
    models.requests.clear()
    await tab.ask("And then?")
    for request in models.requests:
        assert [message["content"] for message in request["messages"]] == [
            "Be brief.", QUESTION, ANSWERS[TUNED], "And then?",
        ]  # fmt: skip


async def test_an_edited_answer_becomes_a_row_and_the_conversation_goes_on_from_it(
    tab: Tab, models: TwoModels, tmp_path: Path
) -> None:
    await tab.ask()
    await tab.correct(0, "Hold it for five seconds.")
    assert "Hold it for five seconds." in tab.board
    (kept,) = [json.loads(line) for line in (tmp_path / "votes.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (kept["model"], kept["output"], kept["corrected"]) == (BASE, ANSWERS[BASE], "Hold it for five seconds.")
    models.requests.clear()
    await tab.ask("And then?")
    histories = {request["model"]: request["messages"][2]["content"] for request in models.requests}
    assert histories == {BASE: "Hold it for five seconds.", TUNED: ANSWERS[TUNED]}


@pytest.mark.parametrize(("side", "text"), [(7, "x"), (-1, "x"), (0, ""), (0, None), ("0", "x"), (0, ANSWERS[BASE])])
async def test_an_edit_that_changes_nothing_is_none(tab: Tab, tmp_path: Path, side: Any, text: Any) -> None:
    await tab.ask()
    before = tab.board
    await tab.correct(side, text)
    assert tab.board == before
    assert not (tmp_path / "votes.jsonl").exists()


async def test_exports_are_files_for_the_browser(tab: Tab) -> None:
    on = tab.handlers.on
    tab.apply(await tab.handlers.export("preferences")(tab))
    assert (tab.values[on.download], "no preferences yet" in tab.problem) == (None, True)
    await tab.ask()
    await tab.vote("preferred", 1)
    tab.apply(await tab.handlers.export("preferences")(tab))
    file = tab.values[on.download]
    assert file["name"] == "preferences.jsonl"
    assert json.loads(file["text"])["preferred_output"][0]["content"] == ANSWERS[TUNED]


async def test_stop_keeps_the_text_of_all_sides_and_closes_their_streams(tab: Tab, models: TwoModels) -> None:
    asking = asyncio.create_task(tab.ask("go on forever"))
    while "and so on" not in tab.board:
        await asyncio.sleep(0.02)
    await tab.handlers.stop(tab)
    await asyncio.wait_for(asking, 5)
    assert tab.board.count("<span>stopped</span>") == 2
    assert await asyncio.to_thread(models.closed_early.wait, 5)


async def test_a_reloaded_tab_finds_its_comparison_and_a_running_answer_is_stopped(tab: Tab) -> None:
    asking = asyncio.create_task(tab.ask("go on forever"))
    while "and so on" not in tab.board:
        await asyncio.sleep(0.02)
    reloaded = Tab(tab.handlers, session_hash="another")
    reloaded.apply(await tab.handlers.restore(tab.values[tab.handlers.on.token], reloaded))
    assert "and so on" in reloaded.board
    assert "stopped" in reloaded.board
    await asyncio.wait_for(asking, 5)
    await reloaded.open()
    await reloaded.vote("tie")
    assert "The vote is kept." in reloaded.values[tab.handlers.on.voted]


async def test_after_a_restart_of_the_server_the_page_says_what_is_gone(tab: Tab) -> None:
    tab.values[tab.handlers.on.token] = "of-another-server"
    tab.apply(await tab.handlers.restore("of-another-server", tab))
    assert tab.problem == GONE
    await tab.open()
    assert tab.problem == GONE, "the list of models came later and has no problem to report"
    tab.values[tab.handlers.on.token] = "of-another-server"
    await tab.vote("tie")
    assert tab.problem == GONE
    await tab.ask()
    assert "hold the reset button" in tab.board
    assert tab.problem == ""


async def test_a_question_in_mid_answer_waits_in_its_box(tab: Tab, models: TwoModels) -> None:
    asking = asyncio.create_task(tab.ask("go on forever"))
    while "and so on" not in tab.board:
        await asyncio.sleep(0.02)
    other = Tab(tab.handlers)
    other.values = tab.values | {tab.handlers.on.question: "too early"}
    updates = [update async for update in tab.handlers.ask(dict(other.values), other)]
    assert updates == [{tab.handlers.on.question: gr.skip()}]
    assert [update async for update in tab.handlers.follow(other)] == [{tab.handlers.on.board: gr.skip()}]
    assert len(models.requests) == 2
    await tab.handlers.stop(tab)
    await asyncio.wait_for(asking, 5)
    await tab.ask("and now")
    assert len(models.requests) == 4


async def test_new_in_mid_answer_stays_empty(tab: Tab) -> None:
    asking = asyncio.create_task(tab.ask("go on forever"))
    while "and so on" not in tab.board:
        await asyncio.sleep(0.02)
    tab.apply(await tab.handlers.begin_anew(dict(tab.values), tab))
    await asyncio.wait_for(asking, 5)
    assert (tab.board, tab.values[tab.handlers.on.token]) == ("", "")


async def test_new_begins_anew(tab: Tab, models: TwoModels) -> None:
    await tab.ask()
    token = tab.values[tab.handlers.on.token]
    tab.apply(await tab.handlers.begin_anew(dict(tab.values), tab))
    assert (tab.board, tab.values[tab.handlers.on.token]) == ("", "")
    models.requests.clear()
    await tab.ask("first again")
    assert all(len(request["messages"]) == 2 for request in models.requests)
    tab.apply(await tab.handlers.restore(token, tab))
    assert QUESTION in tab.board


async def test_without_a_place_for_votes_the_page_says_so(models: TwoModels) -> None:
    with serve_in_thread(models.build_app()) as root_url:
        client = ChatClient([f"{root_url}/v1"])
        with gr.Blocks() as blocks:
            tab = Tab(ComparePage(PageContext(client=client, title="Test"), EndpointVotes(client)).build(blocks))
        await tab.open()
        assert "Start the page with --votes FILE" in tab.values[tab.handlers.on.win_rates]
        tab.values[tab.handlers.on.is_blind] = True
        await tab.ask()
        await tab.vote("preferred", 0)
        assert "Not kept. No votes are kept by" in tab.values[tab.handlers.on.voted]
        await tab.correct(1, "Better.")
        assert "The correction is shown here only." in tab.problem
        await client.aclose()


async def test_a_vote_that_could_not_be_kept_can_be_cast_again(tab: Tab, tmp_path: Path) -> None:
    tab.values[tab.handlers.on.is_blind] = True
    await tab.ask()
    path = tmp_path / "votes.jsonl"
    path.mkdir()
    await tab.vote("preferred", 0)
    assert "The vote is not kept yet; vote again." in tab.problem
    assert "name hidden" in tab.board
    path.rmdir()
    await tab.vote("preferred", 0)
    assert "The vote is kept." in tab.values[tab.handlers.on.voted]


@pytest.mark.parametrize("question", ["", "  \n"])
async def test_an_empty_question_sends_no_request(tab: Tab, models: TwoModels, question: str) -> None:
    await tab.ask(question)
    assert models.requests == []
