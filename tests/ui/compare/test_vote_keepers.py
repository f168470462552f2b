"""One contract for both places of votes: the endpoint's routes, and a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.serve_apps.platform_app.votes.vote_server import vote_api
from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread
from tuneyard.api.wire.platform_api.votes import CorrectionRequest, VotedAnswer, VoteInput, VoteMessage, VoteRequest
from ui.compare.votes.endpoint_votes import EndpointVotes
from ui.compare.votes.keeper import VoteKeeper, VotesError, VotesNotKeptError
from ui.compare.votes.vote_file import VoteFile
from ui.endpoints.chat_client import ChatClient

QUESTION = VoteInput(messages=(VoteMessage(role="user", content="How long?"),))


def a_vote(reason: str = "because", preferred: int = 0) -> VoteRequest:
    answers = (VotedAnswer(model="tuned", version="t/1", output="Two years."), VotedAnswer(model="base", output="No."))
    return VoteRequest(
        input=QUESTION, answers=answers, outcome="preferred", preferred=preferred, reason=reason, blind=True
    )


def a_correction(text: str = "Three years.") -> CorrectionRequest:
    return CorrectionRequest(input=QUESTION, model="base", output="No.", corrected=text)


@pytest.fixture(params=["endpoint", "file"])
async def keeper(
    request: pytest.FixtureRequest, tmp_path: Path, endpoint: ScriptedEndpoint
) -> AsyncIterator[VoteKeeper]:
    if request.param == "file":
        yield VoteFile(tmp_path / "votes.jsonl")
        return
    with vote_api(tmp_path) as api, serve_in_thread(api) as root_url:
        client = ChatClient([endpoint.base_url, f"{root_url}/v1"])  # the first one keeps no votes
        yield EndpointVotes(client)
        await client.aclose()


async def test_votes_are_kept_counted_and_exported(keeper: VoteKeeper) -> None:
    vote = await keeper.create_vote(a_vote(), "a" * 32, None)
    correction = await keeper.create_correction(a_correction(), "b" * 32, None)
    assert vote.id.startswith("vote_")
    assert correction.id.startswith("correction_")
    assert vote.model_dump(include=set(VoteRequest.model_fields)) == a_vote().model_dump()
    summary = await keeper.summarize(None)
    assert (summary.votes, summary.blind_votes, summary.preference_rows, summary.corrections) == (1, 1, 1, 1)
    assert [(pair.wins, pair.losses) for pair in summary.pairs] == [(0, 1)], "base against tuned"
    (preference,) = (await keeper.export("preferences", None)).splitlines()
    assert json.loads(preference)["preferred_output"] == [{"role": "assistant", "content": "Two years."}]
    (chat,) = (await keeper.export("corrections", None)).splitlines()
    assert json.loads(chat)["messages"][-1] == {"role": "assistant", "content": "Three years."}


async def test_a_vote_that_is_sent_again_is_kept_once(keeper: VoteKeeper) -> None:
    one = await keeper.create_vote(a_vote(), "a" * 32, None)
    assert await keeper.create_vote(a_vote(), "a" * 32, None) == one
    await keeper.create_vote(a_vote(), "b" * 32, None)
    await keeper.create_correction(a_correction(), "a" * 32, None)
    assert await keeper.create_correction(a_correction(), "a" * 32, None)
    summary = await keeper.summarize(None)
    assert (summary.votes, summary.corrections) == (2, 1)


async def test_a_deleted_vote_does_not_count(keeper: VoteKeeper) -> None:
    vote = await keeper.create_vote(a_vote(), "a" * 32, None)
    await keeper.delete_vote(vote.id, None)
    assert (await keeper.summarize(None)).votes == 0
    assert await keeper.export("preferences", None) == ""
    with pytest.raises(VotesError, match=vote.id):
        await keeper.delete_vote(vote.id, None)


async def test_many_at_once_are_all_kept(keeper: VoteKeeper) -> None:
    await asyncio.gather(*(keeper.create_vote(a_vote(str(i)), f"{i:032}", None) for i in range(20)))
    assert (await keeper.summarize(None)).votes == 20


async def test_endpoints_without_the_routes_keep_none(client: ChatClient, endpoint: ScriptedEndpoint) -> None:
    votes = EndpointVotes(client)
    with pytest.raises(
        VotesNotKeptError, match=f"No votes are kept by {endpoint.base_url}. Start the page with --votes"
    ):
        await votes.summarize(None)
    with pytest.raises(VotesNotKeptError):
        await votes.create_vote(a_vote(), "a" * 32, None)


async def test_an_endpoint_that_does_not_answer_is_no_endpoint_without_votes() -> None:
    client = ChatClient(["http://127.0.0.1:9/v1"])
    with pytest.raises(VotesError, match="does not answer") as caught:
        await EndpointVotes(client).summarize(None)
    await client.aclose()
    assert not isinstance(caught.value, VotesNotKeptError)


async def test_an_interrupted_line_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    votes = VoteFile(path)
    await votes.create_vote(a_vote(), "a" * 32, None)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[: len(whole) // 2])
    assert (await votes.summarize(None)).votes == 1
    await votes.create_vote(a_vote(), "b" * 32, None)
    assert (await votes.summarize(None)).votes == 2
    assert path.stat().st_mode & 0o077 == 0


async def test_a_line_that_is_no_vote_is_named(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    votes = VoteFile(path)
    await votes.create_vote(a_vote(), "a" * 32, None)
    path.write_bytes(path.read_bytes() + b'{"object": "vote", "id": 3}\n')
    with pytest.raises(VotesError, match=r"votes\.jsonl:2 is no vote"):
        await votes.summarize(None)


async def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "votes.jsonl").mkdir()
    with pytest.raises(VotesError, match="cannot be read"):
        await VoteFile(tmp_path / "votes.jsonl").create_vote(a_vote(), "a" * 32, None)
