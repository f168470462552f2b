"""Work that runs after its request is done for its key, without the key's secret, and charged to it."""

from __future__ import annotations

import asyncio
import warnings
from pathlib import Path

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from serve_apps.gateway.owner_calls import OwnerCalls
    from tests.serve_apps.platform_app.served_models import ServedModels

from serve_apps.engine_wrappers.idle_capacity import NO_IDLE_CAPACITY
from serve_apps.keys.counting import KeyCounting
from serve_apps.keys.key_gate import KeyGate
from serve_apps.keys.metrics import KeyMetrics
from serve_apps.keys.usage_recorder import UsageRecorder
from tests.serve_apps.api_client import ANSWER, CHAT
from tests.serve_apps.conftest import ModelFactory
from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger
from tuneyard.core.errors import AuthenticationError, ModelNotFoundError
from tuneyard.storage.sql.location import SqlLocation

PATH = "/v1/chat/completions"


class Setup:
    """OwnerCalls to the model `tiny`, with keys whose usage is counted."""

    def __init__(
        self, folder: Path, make_model: ModelFactory, *, capacity: int = 8, token_interval_s: float = 0
    ) -> None:
        self.store = KeyStore(folder / "api_keys.json")
        self.usage = UsageRecorder(UsageLedger(SqlLocation(file=folder / "usage.db")), 3600, KeyMetrics())
        self.gate = KeyGate(self.store, counting=KeyCounting(self.usage))
        model = make_model(ANSWER, token_interval_s=token_interval_s)
        self.calls = OwnerCalls(ServedModels([model], capacity), self.gate)


async def test_an_answer_is_charged_to_the_key_and_to_none_of_its_limits_per_minute(
    tmp_path: Path, make_model: ModelFactory
) -> None:
    setup = Setup(tmp_path, make_model)
    key, secret = setup.store.create("k", requests_per_minute=1, tokens_per_minute=1, max_streams=1)
    answers = await asyncio.gather(
        *(setup.calls.complete(key.sha256, PATH, CHAT, is_background=bool(n % 2)) for n in range(4))
    )
    assert [answer.status for answer in answers] == [200] * 4
    usages = [answer.content["usage"] for answer in answers if answer.content is not None]
    used = setup.usage.of_month(key)
    assert used == UsageCounts(
        requests=4,
        prompt_tokens=sum(usage["prompt_tokens"] for usage in usages),
        completion_tokens=sum(usage["completion_tokens"] for usage in usages),
        reasoning_tokens=sum(usage["completion_tokens_details"]["reasoning_tokens"] for usage in usages),
    )
    (await setup.gate.admit(f"Bearer {secret}")).release()  # live requests have all their limits
    assert CHAT["model"] == "tiny"


async def test_a_budget_holds(tmp_path: Path, make_model: ModelFactory) -> None:
    setup = Setup(tmp_path, make_model)
    key, _ = setup.store.create("k", requests_per_month=2)
    codes = []
    for _ in range(3):
        answer = await setup.calls.complete(key.sha256, PATH, CHAT)
        codes.append((answer.status, (answer.content or {}).get("error", {}).get("code")))
    assert codes == [(200, None), (200, None), (429, "insufficient_quota")]


async def test_keys_that_are_no_longer_valid_and_models_that_are_not_theirs(
    tmp_path: Path, make_model: ModelFactory
) -> None:
    setup = Setup(tmp_path, make_model)
    revoked, _ = setup.store.create("revoked")
    restricted, _ = setup.store.create("restricted", models=("other",))
    setup.store.revoke(revoked.id)
    for owner in (revoked.sha256, "", "0" * 64):
        answer = await setup.calls.complete(owner, PATH, CHAT)
        assert answer.status == 401
        with pytest.raises(AuthenticationError):
            await setup.calls.find(owner, "tiny")
    answer = await setup.calls.complete(restricted.sha256, PATH, CHAT)
    assert answer.status == 404
    assert answer.content is not None
    assert answer.content["error"]["code"] == "model_not_found"
    with pytest.raises(ModelNotFoundError):
        await setup.calls.find(restricted.sha256, "tiny")
    with pytest.raises(AuthenticationError, match="at one of the two times"):
        KeyGate(None).find_owner(restricted.sha256)
    assert KeyGate(None).find_owner("") is None


async def test_a_digest_is_no_credential(tmp_path: Path, make_model: ModelFactory) -> None:
    setup = Setup(tmp_path, make_model)
    key, _ = setup.store.create("k")
    with pytest.raises(AuthenticationError):
        await setup.gate.admit(f"Bearer {key.sha256}")


async def test_a_wrong_request_is_an_answer(tmp_path: Path, make_model: ModelFactory) -> None:
    setup = Setup(tmp_path, make_model)
    key, _ = setup.store.create("k")
    for body in ({}, {"model": "tiny"}, CHAT | {"temperature": "hot"}):
        assert (await setup.calls.complete(key.sha256, PATH, body)).status == 400


async def test_an_answer_that_gave_way_costs_nothing_and_a_cancelled_call_ends(
    tmp_path: Path, make_model: ModelFactory
) -> None:
    setup = Setup(tmp_path, make_model, capacity=1, token_interval_s=0.01)
    key, _ = setup.store.create("k")
    background = asyncio.create_task(setup.calls.complete(key.sha256, PATH, CHAT, is_background=True))
    await asyncio.sleep(0.05)
    live = await setup.calls.complete(key.sha256, PATH, CHAT)
    gave_way = await background
    assert (live.status, gave_way.status) == (200, 503)
    assert gave_way.content is not None
    assert gave_way.content["error"]["code"] == NO_IDLE_CAPACITY
    assert live.content is not None
    usage = live.content["usage"]
    assert setup.usage.of_month(key).tokens == usage["total_tokens"]
    cancelled = asyncio.create_task(setup.calls.complete(key.sha256, PATH, CHAT, is_background=True))
    await asyncio.sleep(0.03)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    async with asyncio.timeout(2):
        assert (await setup.calls.complete(key.sha256, PATH, CHAT, is_background=True)).status == 200
    assert setup.usage.of_month(key).tokens == 2 * usage["total_tokens"]
