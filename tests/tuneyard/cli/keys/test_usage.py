"""`tuneyard keys usage` prints what keys used."""

from __future__ import annotations

import contextlib
import datetime
import json
from pathlib import Path

import pytest

from tuneyard.api.api_keys import KeyStore
from tuneyard.api.usage_counts import UsageCounts
from tuneyard.api.usage_ledger import UsageLedger, UsageRow, usage_location
from tuneyard.cli.main import main

TODAY = datetime.datetime.now(datetime.UTC).date()
LONG_AGO = datetime.date(2026, 1, 31)


@pytest.fixture
def key_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A key with a budget, which used something today and long ago; another key used something, too."""
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    key, _ = KeyStore().create("team", tokens_per_month=10_000)
    with contextlib.closing(UsageLedger(usage_location(KeyStore().path, None))) as ledger:
        ledger.add(
            "1",
            [
                UsageRow(TODAY, key.id, "team", "small", UsageCounts(2, 1000, 10, 500, 400)),
                UsageRow(TODAY, key.id, "team", "", UsageCounts(1)),
                UsageRow(LONG_AGO, key.id, "team", "small", UsageCounts(7, 70)),
                UsageRow(TODAY, "gone", "someone", "large", UsageCounts(1, 5)),
            ],
        )
    return key.id


def test_the_table(capsys: pytest.CaptureFixture[str], key_id: str) -> None:
    assert main(["keys", "usage"]) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = [line.split() for line in lines[1:]]
    assert lines[0].split() == [
        "day",
        "key",
        "name",
        "model",
        "requests",
        "tokens",
        "in",
        "cached",
        "tokens",
        "out",
        "reasoning",
    ]
    assert cells[0] == [str(TODAY), "gone", "someone", "large", "1", "5", "0", "0", "0"]
    assert cells[1] == [str(TODAY), key_id, "team", "(refused)", "1", "0", "0", "0", "0"]
    assert cells[2] == [str(TODAY), key_id, "team", "small", "2", "1,000", "10", "500", "400"]
    assert cells[3] == ["total", "4", "1,005", "10", "500", "400"]
    assert lines[5] == f"budget of {key_id} (team) this month: 1,500 of 10,000 tokens"
    assert len({len(line) for line in lines[:5]}) == 1, "right-aligned columns end together"


def test_rows_are_selected_as_json(capsys: pytest.CaptureFixture[str], key_id: str) -> None:
    since = ["--since", str(LONG_AGO)]
    for options, requests in (
        ([], 4),
        (since, 11),
        ([*since, "--key", key_id], 10),
        ([*since, "--key", "team", "--model", "small"], 9),
        (["--days", "1", "--key", "gone"], 1),
        (["--key", "unknown"], 0),
    ):
        assert main(["keys", "usage", "--json", *options]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["total"]["requests"] == sum(row["requests"] for row in document["rows"]) == requests
    assert main(["keys", "usage", "--json", "--key", key_id]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["budgets"] == [
        {"key_id": key_id, "key_name": "team", "tokens": {"used": 1500, "per_month": 10_000}}
    ]
    assert document["rows"][0]["model"] is None
    assert document["rows"][1] == {
        "day": str(TODAY),
        "key_id": key_id,
        "key_name": "team",
        "model": "small",
        "requests": 2,
        "prompt_tokens": 1000,
        "cached_tokens": 10,
        "completion_tokens": 500,
        "reasoning_tokens": 400,
    }


def test_nothing_is_created_by_looking(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    assert main(["keys", "usage"]) == 0
    assert "no usage since" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_config_names_the_database(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    config = tmp_path / "serve.yaml"
    config.write_text("models: [{model_id: tiny, checkpoint: /models/tiny}]\n")
    assert main(["keys", "usage", "--config", str(config)]) == 1
    assert "no section `database`" in capsys.readouterr().err
    with config.open("a") as file:
        file.write("database: {url: 'postgresql://nobody@127.0.0.1:1/usage'}\n")
    assert main(["keys", "usage", "--config", str(config)]) == 1
    assert "cannot be read or written now" in capsys.readouterr().err
