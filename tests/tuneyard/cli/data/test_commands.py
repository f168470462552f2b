"""`tuneyard data` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneyard.cli.main import main

DATA = Path("jobs/data")


def chat(question: str, answer: str = "a") -> str:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": messages})


def test_the_demos_data_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    train, heldout = str(DATA / "brindle_train.jsonl"), str(DATA / "brindle_heldout.jsonl")
    assert main(["data", "validate", train, "--heldout", heldout]) == 0
    assert "382 rows, no problems" in capsys.readouterr().out


def test_every_kind_of_problem_is_named_and_counted(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        chat("What is it?"),
        chat("What is it?"),
        chat("what  is it"),
        chat("a\x07b"),
        chat("q <|end|> r"),
        chat("Häuser 🎉 " * 200),
        '{"messages": [',
        json.dumps({"messages": [{"role": "user", "content": "only"}]}),
        chat(" "),
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    (tmp_path / "h.jsonl").write_text(chat("What is it?") + "\n" + chat("new"))
    arguments = ["data", "validate", str(tmp_path / "c.jsonl"), "--heldout", str(tmp_path / "h.jsonl")]
    assert main([*arguments, "--model", str(tiny_oss), "--max-length", "400"]) == 1
    output = capsys.readouterr().out
    for expected in (
        "c.jsonl:2: the row is the same as row or line 1. Remove it.",
        "c.jsonl:3: the row is the same as row or line 1 except for case, spaces and punctuation",
        "c.jsonl:4: message 1 (user) contains the control character U+0007 at character 2",
        "c.jsonl:5: message 1 (user) spells '<|end|>'. It is trained as plain text",
        "c.jsonl:6: turn 1 has",
        "c.jsonl:7: not valid JSON",
        "c.jsonl:8: the chat has no assistant message to train on",
        "c.jsonl:9: message 1 (user) has empty content",
        "h.jsonl:1: this held-out row equals a training row (row or line 1)",
        "1  leakage (error)",
        "11 rows, 5 errors, 3 warnings, 1 note",
    ):
        assert expected in output, output
    assert main([*arguments, "--show", "2"]) == 1
    assert "… and 6 more" in capsys.readouterr().out


def test_a_system_message_that_all_chats_share_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The held-out chats need not share it."""
    first = {"role": "system", "content": "You answer\nfor Acme."}
    rows = [{"messages": [first, *json.loads(chat(question))["messages"]]} for question in "qr"]
    (tmp_path / "c.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "h.jsonl").write_text(chat("s") + "\n" + chat("t"))
    arguments = ["data", "validate", str(tmp_path / "c.jsonl"), "--heldout", str(tmp_path / "h.jsonl")]
    assert main(arguments) == 0
    line = r"All training chats begin with the system message 'You answer\nfor Acme.': send it with every request too."
    assert capsys.readouterr().out.splitlines()[-2] == line
    assert main([*arguments, "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert [file["shared_system_message"] for file in files] == [first["content"], None]
    assert main(["data", "validate", str(tmp_path / "h.jsonl")]) == 0
    assert "system message" not in capsys.readouterr().out


def test_notes_alone_do_not_fail(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text(chat("q <|end|> r"))
    assert main(["data", "validate", str(tmp_path / "c.jsonl")]) == 0


def test_warnings_fail_only_if_strict(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.jsonl").write_text(chat("q") + "\n" + chat("q"))
    arguments = ["data", "validate", str(tmp_path / "c.jsonl")]
    assert main(arguments) == 0
    assert main([*arguments, "--strict"]) == 1
    assert main([*arguments, "--strict", "--set", "data.problems.duplicate=drop"]) == 0
    output = capsys.readouterr().out
    assert "c.jsonl:2: the row is the same as row or line 1. Remove it. [drop: duplicate]" in output
    assert "1  duplicate (rows left out)" in output


def test_validation_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(chat("q")) | {"colour": "red"}
    lines = [json.dumps(row), json.dumps(row), json.dumps(row | {"colour": "blue"}), "{"]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    arguments = ["data", "validate", str(tmp_path / "c.jsonl"), "--json", "--set", "data.problems.duplicate=drop"]
    assert main(arguments) == 1
    report = json.loads(capsys.readouterr().out)
    (file,) = report["files"]
    assert (file["format"], file["rows"], file["rows_to_train_on"]) == ("openai", 4, 1)
    assert file["counts"] == {"error": {"unreadable": 1}, "warning": {"unknown_column": 1}, "note": {}}
    assert file["dropped"] == {"duplicate": 2}
    assert [(found["where"][-1], found["name"], found["severity"]) for found in report["problems"]] == [
        ("1", "unknown_column", "warning"),
        ("2", "duplicate", "drop"),
        ("3", "duplicate", "drop"),
        ("4", "unreadable", "error"),
    ]
    assert report["problems_not_listed"] == 0


def test_a_column_is_reported_once_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [json.dumps(json.loads(chat(f"q{number}")) | {"colour": "red"}) for number in range(5)]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    assert main(["data", "validate", str(tmp_path / "c.jsonl")]) == 0
    output = capsys.readouterr().out
    assert output.count("`colour` is not used") == 1
    assert "5  unknown_column (warning)" in output


def test_the_section_of_a_run_says_how_rows_become_chats(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.csv").write_text('question,answer,topic\nWhere?,"[""Here""]",maps\n')
    (tmp_path / "run.yaml").write_text(
        "run: {name: r, model_name: m}\nmodel: {base: base}\n"
        "data: {train: c.csv, columns: {prompt: '{topic}: {question}', completion: answer}}\n"
    )
    arguments = [str(tmp_path / "c.csv"), "--config", str(tmp_path / "run.yaml"), "--model", str(tiny_oss)]
    assert main(["data", "preview", *arguments]) == 0
    output = capsys.readouterr().out
    assert (
        "prompt and completion (prompt_completion)\n  prompt = '{topic}: {question}'\n  completion = column `answer`"
        in output
    )
    assert 'maps: Where?<|end|><|start|>assistant⟦<|channel|>final<|message|>["Here"]<|return|>⟧' in output
    assert main(["data", "validate", str(tmp_path / "c.csv"), "--set", "data.colums.prompt=x"]) == 1
    assert "data.colums: unknown field. Known here: columns, format, " in capsys.readouterr().err


def test_stats_as_table_and_json(tiny_oss: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "stats", str(DATA / "brindle_train.jsonl"), "--model", str(tiny_oss), "--max-length", "1024"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "OpenAI chat" in table
    assert "steps per epoch" in table
    assert main([*arguments, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["rows"], stats["turns"], stats["over_max_length"]) == (296, 302, 0)
    assert stats["steps_per_epoch"] == 76
    assert 0 < stats["assistant_share"] < 1
    assert sum(stats["histogram"].values()) == stats["training_rows"]
    assert stats["packing_efficiency"] > stats["padding_efficiency"] * 0.5
    assert stats["packs"] * 1024 >= stats["tokens"]


def test_preview_marks_trained_tokens(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.jsonl").write_text(chat("hello", "world"))
    assert main(["data", "preview", str(tmp_path / "c.jsonl"), "--model", str(tiny_oss), "-n", "1"]) == 0
    output = capsys.readouterr().out
    assert "hello<|end|><|start|>assistant⟦<|channel|>final<|message|>world<|return|>⟧" in output


def test_every_command_knows_preference_pairs(
    tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a setting. With one, or the config of a run that trains on one half, they are chats."""
    pair = {"prompt": "Is peat a rock?", "chosen": "No.", "rejected": "Yes."}
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps(pair) + "\n" + json.dumps(pair | {"prompt": "Is turf?", "rejected": "No."}))
    assert main(["data", "validate", str(file)]) == 1
    assert "p.jsonl:2: the two answers are the same: 'No.'" in capsys.readouterr().out
    drop = ["--set", "data.problems.equal_answers=drop"]
    assert main(["data", "validate", str(file), *drop]) == 0
    capsys.readouterr()
    model = ["--model", str(tiny_oss)]
    assert main(["data", "preview", str(file), *model, "-n", "1"]) == 0
    output = capsys.readouterr().out
    assert "p.jsonl:1 chosen answer: " in output
    assert "Is peat a rock?<|end|><|start|>assistant⟦<|channel|>final<|message|>No.<|return|>⟧" in output
    assert "Is peat a rock?<|end|><|start|>assistant⟦<|channel|>final<|message|>Yes.<|return|>⟧" in output
    assert main(["data", "stats", str(file), *model, *drop]) == 0
    table = capsys.readouterr().out
    assert "1, preference pairs" in table
    assert "packed" not in table
    assert main(["data", "stats", str(file), *model, *drop, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pairs"] == 1
    assert main(["data", "preview", str(file), *model, "-n", "1", "--set", "data.preference=rejected"]) == 0
    assert "turn 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["validate", "missing.jsonl"], "missing.jsonl: no such dataset file"),
        (["validate", "x", "--max-length", "5"], "--max-length and --model need each other"),
        (["stats", "x", "--model", "nowhere"], "no checkpoint there"),
        (["stats", "x", "--batch-size", "0"], "--batch-size must be at least 1, found 0"),
        (["parity", "nowhere@newest"], "nowhere"),
    ],
)
def test_mistakes_get_a_clear_message(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["data", *arguments]) == 1
    assert message in capsys.readouterr().err
