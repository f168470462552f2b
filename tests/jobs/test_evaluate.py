"""Scoring: what counts as right, and how it is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluate import Answer, Endpoint, Score, answers_table, main, score_table
from serve_apps.engines.engine import OPTIONS
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tuneyard.core.errors import ConfigError
from tuneyard.harmony.codec import CodecSettings, HarmonyCodec


def score(model: str, *answers: Answer) -> Score:
    return Score(model, len(answers), 0.5, 0.25, 1.0, answers)


def test_tables_show_shares_and_ticks() -> None:
    right = Answer("What is it?", "It is\n42.", True, False, True)
    wrong = Answer("What is it?", "", False, False, False)
    scores = [score("base", wrong), score("tuned-model", right)]
    assert "tuned-model     1                50%           25%         100%" in score_table(scores)
    table = answers_table(scores, rows=5).splitlines()
    assert table[0] == "? What is it?"
    assert table[1].split() == ["base", "✗", "(nothing)"]
    assert table[2].split() == ["tuned-model", "✓", "It", "is", "42."]


def test_endpoints_are_model_and_url() -> None:
    assert Endpoint.parse("m=http://h/v1") == Endpoint("m", "http://h/v1")
    for text in ("m", "=http://h", "m=ftp://h"):
        with pytest.raises(ConfigError, match="expected MODEL=BASE_URL"):
            Endpoint.parse(text)


def test_calls_are_asked_for_with_their_tools_and_compared(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.evaluate.CONCURRENCY", 1)  # the script's order
    replies = [
        "<|channel|>commentary to=functions.order<|message|>{&part&: &seal&, &n&: 2}<|call|>".replace("&", '"'),
        "<|channel|>final<|message|>Ordered.<|return|>",
    ]
    engine = ScriptedEngine([encode_spelled_out(tiny_oss, reply) for reply in replies], options=OPTIONS)
    served = ServedApi(engine, HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings()))
    call = {"id": "c", "type": "function", "function": {"name": "order", "arguments": '{"n":2,"part":"seal"}'}}
    messages = [{"role": "user", "content": "Two seals."}, {"role": "assistant", "tool_calls": [call]}]
    answered = [{"role": "tool", "tool_call_id": "c", "content": "ok"}, {"role": "assistant", "content": "Ordered."}]
    tools = [{"type": "function", "function": {"name": "order", "parameters": {"type": "object"}}}]
    rows = [{"messages": messages, "tools": tools}, {"messages": messages + answered, "tools": tools}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = tmp_path / "scores.json"
    try:
        arguments = ["--data", str(tmp_path / "rows.jsonl"), "--model", f"tiny={served.root}/v1"]
        assert main([*arguments, "--json", str(result)]) == 0, capsys.readouterr().err
        assert main([*arguments, "--max-tokens", "0"]) == 1
    finally:
        served.stop()
    (found,) = json.loads(result.read_text())
    assert (found["exact"], found["well_formed"]) == (1.0, 1.0)


def test_a_dead_endpoint_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("jobs/data/brindle_heldout.jsonl")
    code = main(["--data", str(data), "--model", "m=http://127.0.0.1:9/v1", "--limit", "1", "--show", "0"])
    assert code == 1
    assert "m at http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
