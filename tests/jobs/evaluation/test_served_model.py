"""Served models asked over HTTP, and their tool calls and answers scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.evaluate import main
from jobs.evaluation.served_model import Endpoint
from serve_apps.engines.engine import OPTIONS
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tuneyard.core.errors import ConfigError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings


def test_endpoints_are_model_and_url() -> None:
    assert Endpoint.parse("m=http://h/v1") == Endpoint("m", "http://h/v1")
    for text in ("m", "=http://h", "m=ftp://h"):
        with pytest.raises(ConfigError, match="expected MODEL=BASE_URL"):
            Endpoint.parse(text)


def test_tool_calls_are_requested_and_compared(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.evaluation.served_model.CONCURRENCY", 1)  # the replies are in the order of the rows
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
    (score,) = json.loads(result.read_text())
    assert (score["exact"], score["well_formed"]) == (1.0, 1.0)


def test_a_dead_endpoint_is_an_error_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    data = Path("jobs/data/brindle_heldout.jsonl")
    code = main(["--data", str(data), "--model", "m=http://127.0.0.1:9/v1", "--limit", "1", "--show", "0"])
    assert code == 1
    assert "m at http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("gives_config", [False, True])
def test_rows_are_read_with_the_settings_of_config_and_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], gives_config: bool
) -> None:
    (tmp_path / "qa.jsonl").write_text(json.dumps({"ask": "q", "say": "a"}))
    asked = ["--data", str(tmp_path / "qa.jsonl"), "--model", "m=http://127.0.0.1:9/v1"]
    assert main(asked) == 1
    assert "Map the columns with data.columns" in capsys.readouterr().err
    if gives_config:
        config = tmp_path / "run.yaml"
        config.write_text(
            "run: {name: r, model_name: m}\nmodel: {base: b}\n"
            "data: {train: t.jsonl, heldout: h.jsonl, columns: {prompt: ask, completion: say}}\n"
        )
        settings = ["--config", str(config)]
    else:
        settings = ["--set", "data.columns.prompt=ask", "--set", "data.columns.completion=say"]
    assert main([*asked, *settings]) == 1
    assert "m at http://127.0.0.1:9/v1 does not answer" in capsys.readouterr().err
