"""Two API keys see nothing of each other's evals, runs and output items, and each is charged for its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import select

from serve_apps.platform_app.evals.tables import EVAL_RUNS
from tests.serve_apps.platform_app.evals.conftest import judge, write
from tests.serve_apps.platform_app.evals.eval_server import EvalServer
from tests.serve_apps.platform_app.evals.test_runs import completions, create_eval
from tuneyard.api.api_keys import KeyStore


async def test_another_key_sees_no_eval_run_or_item(tmp_path: Path, tiny_oss: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    (_, one), (_, other) = keys.create("one"), keys.create("other", models=("judge",))
    server = EvalServer(tmp_path, tiny_oss, {"writer": write, "judge": judge}, keys=keys)
    own, foreign = server.client(one), server.client(other)
    parent = await create_eval(own)
    run = await own.evals.runs.create(parent.id, data_source=completions())
    await server.work()
    (item, *_) = (await own.evals.runs.output_items.list(run.id, eval_id=parent.id)).data
    assert (await foreign.evals.list()).data == []
    theirs = await create_eval(foreign)
    source: Any = completions()
    for call in (
        foreign.evals.retrieve(parent.id),
        foreign.evals.update(parent.id, name="mine"),
        foreign.evals.delete(parent.id),
        foreign.evals.runs.list(parent.id),
        foreign.evals.runs.create(parent.id, data_source=source),
        foreign.evals.runs.retrieve(run.id, eval_id=parent.id),
        foreign.evals.runs.retrieve(run.id, eval_id=theirs.id),
        foreign.evals.runs.cancel(run.id, eval_id=parent.id),
        foreign.evals.runs.delete(run.id, eval_id=parent.id),
        foreign.evals.runs.output_items.list(run.id, eval_id=parent.id),
        foreign.evals.runs.output_items.retrieve(item.id, eval_id=parent.id, run_id=run.id),
        foreign.evals.runs.create(theirs.id, data_source=source),  # the model writer is hidden from this key
    ):
        with pytest.raises(openai.NotFoundError) as caught:
            await call
        assert "writer'" not in caught.value.message or "or this key may not use it" in caught.value.message
    assert (await own.evals.runs.retrieve(run.id, eval_id=parent.id)).result_counts.total == 3
    with pytest.raises(openai.AuthenticationError):
        await server.client("ty-wrong").evals.list()
    await server.close()


async def test_a_run_fails_by_name_if_its_key_is_revoked(tmp_path: Path, tiny_oss: Path) -> None:
    keys = KeyStore(tmp_path / "keys.json")
    key, secret = keys.create("one")
    server = EvalServer(tmp_path, tiny_oss, {"writer": write}, keys=keys)
    client = server.client(secret)
    parent = await create_eval(client)
    run = await client.evals.runs.create(parent.id, data_source=completions())
    keys.revoke(key.id)
    await server.work()
    _, again = keys.create("two")
    with pytest.raises(openai.NotFoundError):
        await server.client(again).evals.runs.retrieve(run.id, eval_id=parent.id)
    with server.database.reading() as connection:
        (row,) = connection.execute(select(EVAL_RUNS.c.state, EVAL_RUNS.c.error)).all()
    assert (row.state, json.loads(row.error)["code"]) == ("failed", "invalid_api_key")
    await server.close()
