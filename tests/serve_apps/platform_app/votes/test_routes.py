from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.serve_apps.platform_app.votes.vote_server import ADMIN_KEY, client_of, vote_api
from tuneyard.api.api_keys import KeyStore
from tuneyard.storage.audit_log import ADMIN_KEY_ACTOR, AuditLog

QUESTION = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How long?"}]}


def a_vote(**changes: Any) -> dict[str, Any]:
    answers = [
        {"model": "tuned", "version": "support/3", "run": "run-7", "output": "Two years."},
        {"model": "base", "output": "I do not know."},
    ]
    return {"input": QUESTION, "answers": answers, "outcome": "preferred", "preferred": 0, "blind": True} | changes


def a_correction(**changes: Any) -> dict[str, Any]:
    fields = {"input": QUESTION, "model": "base", "output": "I do not know.", "corrected": "Two years."}
    return fields | changes


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    with vote_api(tmp_path) as api:
        async with client_of(api) as connected:
            yield connected


@pytest.fixture
async def clients(tmp_path: Path) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Of two keys, and of the administrators."""
    store = KeyStore(tmp_path / "keys.json")
    secrets = [store.create(name)[1] for name in ("one", "other")]
    with vote_api(tmp_path, store) as api:
        made = [client_of(api, key) for key in (*secrets, ADMIN_KEY)]
        yield made
        for connected in made:
            await connected.aclose()


async def test_a_vote_is_kept_as_it_was_sent(client: httpx.AsyncClient) -> None:
    sent = a_vote(reason="It knows.", metadata={"temperature": "0"})
    created = await client.post("/votes", json=sent)
    assert created.status_code == 200, created.text
    vote = created.json()
    assert vote["object"] == "vote"
    assert vote["id"].startswith("vote_")
    assert {name: vote[name] for name in ("outcome", "preferred", "reason", "blind", "metadata")} == {
        name: sent[name] for name in ("outcome", "preferred", "reason", "blind", "metadata")
    }
    assert vote["answers"][0]["version"] == "support/3"
    assert (await client.get(f"/votes/{vote['id']}")).json() == vote
    assert (await client.get("/votes")).json()["data"] == [vote]
    assert (await client.delete(f"/votes/{vote['id']}")).json()["deleted"] is True
    for method in (client.get, client.delete):
        gone = await method(f"/votes/{vote['id']}")
        assert (gone.status_code, gone.json()["error"]["code"]) == (404, "not_found")


async def test_lists_are_read_in_pages(client: httpx.AsyncClient) -> None:
    ids = [(await client.post("/votes", json=a_vote(reason=str(i)))).json()["id"] for i in range(5)]
    first = (await client.get("/votes", params={"limit": 2, "order": "asc"})).json()
    rest = (await client.get("/votes", params={"after": first["last_id"], "order": "asc"})).json()
    assert [vote["id"] for vote in first["data"] + rest["data"]] == ids
    assert (first["has_more"], rest["has_more"]) == (True, False)


async def test_a_repeated_request_makes_one_vote(client: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    one = (await client.post("/votes", json=a_vote(), headers=headers)).json()
    again = (await client.post("/votes", json=a_vote(), headers=headers)).json()
    assert again == one
    other = await client.post("/votes", json=a_vote(preferred=1), headers=headers)
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert (await client.get("/votes/summary")).json()["votes"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"preferred": None}, "'preferred' is None with outcome 'preferred'"),
        ({"outcome": "tie"}, "'preferred' is 0 with outcome 'tie'"),
        ({"preferred": 2}, "there are 2 answers"),
        ({"preferred": -1}, "must be at least 0"),
        ({"answers": [{"model": "one", "output": "x"}]}, "at least 2 items"),
        ({"answers": [{"model": m, "output": "x"} for m in "abcde"]}, "at most 4 items"),
        ({"answers": [{"model": "a", "output": " "}, {"model": "b", "output": "x"}]}, "is preferred and has no text"),
        ({"input": {"messages": []}}, "there is no user message"),
        ({"input": {"messages": [{"role": "user", "content": "  "}]}}, "has no text"),
        ({"input": {"messages": [*QUESTION["messages"], {"role": "assistant", "content": "x"}]}}, "with an answer"),
        ({"input": {"messages": [{"role": "tool", "content": "x"}]}}, "input.messages.0.role"),
        ({"winner": 1}, "Unknown parameter: 'winner'"),
        ({"reason": "x" * 2001}, "'reason'"),
        ({"outcome": "left"}, "'outcome'"),
    ],
)
async def test_a_vote_that_says_nothing_is_refused(
    client: httpx.AsyncClient, changes: dict[str, Any], words: str
) -> None:
    refused = await client.post("/votes", json=a_vote(**changes))
    assert refused.status_code == 400
    assert words in refused.json()["error"]["message"]
    assert (await client.get("/votes/summary")).json()["votes"] == 0


async def test_the_summary_counts_blind_votes_by_version(client: httpx.AsyncClient) -> None:
    for _ in range(8):
        await client.post("/votes", json=a_vote())
    await client.post("/votes", json=a_vote(outcome="tie", preferred=None))
    await client.post("/votes", json=a_vote(outcome="both_bad", preferred=None))
    await client.post("/votes", json=a_vote(blind=False, preferred=1))
    summary = (await client.get("/votes/summary")).json()
    assert (summary["votes"], summary["blind_votes"], summary["preference_rows"]) == (11, 10, 9)
    (pair,) = summary["pairs"]
    assert pair["models"] == [{"model": "base", "version": None}, {"model": "tuned", "version": "support/3"}]
    assert (pair["wins"], pair["losses"], pair["ties"], pair["both_bad"]) == (0, 8, 1, 1)
    assert (pair["win_rate"], pair["settled"], pair["votes_to_settle"]) == (0.0, True, 0)
    assert pair["interval"][0] == 0
    assert pair["interval"][1] < 0.5


async def test_exports_are_rows_that_the_dataset_check_accepts(client: httpx.AsyncClient, tmp_path: Path) -> None:
    await client.post("/votes", json=a_vote())
    await client.post("/votes", json=a_vote(outcome="tie", preferred=None))
    await client.post("/votes/corrections", json=a_correction())
    exports = {
        form: (await client.get("/votes/export", params={"form": form})).text for form in ("preferences", "corrections")
    }
    (preference,) = [json.loads(line) for line in exports["preferences"].splitlines()]
    assert preference == {
        "input": QUESTION,
        "preferred_output": [{"role": "assistant", "content": "Two years."}],
        "non_preferred_output": [{"role": "assistant", "content": "I do not know."}],
    }
    (correction,) = [json.loads(line) for line in exports["corrections"].splitlines()]
    assert correction == {"messages": [*QUESTION["messages"], {"role": "assistant", "content": "Two years."}]}
    for form, text in exports.items():
        path = tmp_path / f"{form}.jsonl"
        path.write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "tuneyard.cli.main", "data", "validate", str(path)]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    assert (await client.get("/votes/export", params={"form": "csv"})).status_code == 400


async def test_an_export_reads_all_pages(client: httpx.AsyncClient) -> None:
    for i in range(205):
        await client.post("/votes/corrections", json=a_correction(corrected=f"Answer {i}."))
    lines = (await client.get("/votes/export", params={"form": "corrections"})).text.splitlines()
    assert [json.loads(line)["messages"][-1]["content"] for line in lines] == [f"Answer {i}." for i in range(205)]


async def test_answers_to_different_conversations_are_no_preference(client: httpx.AsyncClient) -> None:
    vote = a_vote()
    vote["answers"][1]["input"] = {"messages": [{"role": "user", "content": "Another question"}]}
    await client.post("/votes", json=vote)
    summary = (await client.get("/votes/summary")).json()
    assert (summary["votes"], summary["preference_rows"], len(summary["pairs"])) == (1, 0, 1)
    assert (await client.get("/votes/export", params={"form": "preferences"})).text == ""


async def test_a_key_sees_its_own_and_administrators_see_all(clients: list[httpx.AsyncClient]) -> None:
    one, other, admin = clients
    vote_id = (await one.post("/votes", json=a_vote())).json()["id"]
    correction_id = (await one.post("/votes/corrections", json=a_correction())).json()["id"]
    await other.post("/votes", json=a_vote(preferred=1))
    for path in (f"/votes/{vote_id}", f"/votes/corrections/{correction_id}"):
        assert (await one.get(path)).status_code == 200
        assert (await other.get(path)).status_code == 404
        assert (await other.delete(path)).status_code == 404
        assert (await admin.get(path)).status_code == 200
    counts = [(await c.get("/votes/summary")).json() for c in (one, other, admin)]
    assert [(c["votes"], c["corrections"], c["preference_rows"]) for c in counts] == [(1, 1, 1), (1, 0, 1), (2, 1, 2)]
    exported = [(await c.get("/votes/export?form=preferences")).text.count("\n") for c in (one, other, admin)]
    assert exported == [1, 1, 2]
    assert (await admin.delete(f"/votes/{vote_id}")).status_code == 200
    assert (await one.get("/votes")).json()["data"] == []


async def test_what_administrators_read_and_delete_is_in_the_audit_log(
    clients: list[httpx.AsyncClient], tmp_path: Path
) -> None:
    one, _, admin = clients
    vote_id = (await one.post("/votes", json=a_vote())).json()["id"]
    correction_id = (await one.post("/votes/corrections", json=a_correction())).json()["id"]
    for client in (one, admin, admin):
        for path in ("", "/corrections", f"/{vote_id}", f"/corrections/{correction_id}", "/export?form=preferences"):
            assert (await client.get(f"/votes{path}")).status_code == 200
        assert (await client.get("/votes/summary")).status_code == 200
        assert (await client.get("/votes/vote_none")).status_code == 404
    for path in (vote_id, f"corrections/{correction_id}"):
        assert (await admin.delete(f"/votes/{path}")).status_code == 200
    events = AuditLog(tmp_path / "audit.jsonl").events()
    assert [(event.action, event.target) for event in events if event.actor == ADMIN_KEY_ACTOR] == [
        ("vote.read", "votes"),
        ("vote.read", "corrections"),
        ("vote.read", vote_id),
        ("vote.read", correction_id),
        ("vote.export", "preferences"),
        ("vote.delete", vote_id),
        ("vote.delete", correction_id),
    ]


async def test_a_key_is_needed(tmp_path: Path) -> None:
    with vote_api(tmp_path, KeyStore(tmp_path / "keys.json")) as api:
        async with client_of(api, "wrong") as stranger:
            for method, path in (("GET", "/votes"), ("GET", "/votes/export?form=preferences"), ("POST", "/votes")):
                assert (await stranger.request(method, path)).status_code == 401


async def test_text_of_any_kind_comes_back(client: httpx.AsyncClient) -> None:
    text = "\0 \U0001f600 שלום \u2028 </script> \x1b"
    vote = a_vote(reason=text)
    vote["answers"][0]["output"] = text
    created = (await client.post("/votes", json=vote)).json()
    assert (created["reason"], created["answers"][0]["output"]) == (text, text)
    assert (await client.get(f"/votes/{created['id']}")).json() == created
    (row,) = (await client.get("/votes/export?form=preferences")).content.splitlines()
    assert json.loads(row)["preferred_output"][0]["content"] == text
