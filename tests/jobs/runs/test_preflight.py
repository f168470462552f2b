"""Preflight: every mistake in a run is reported before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.runs.data_summary import data_summary
from jobs.runs.dataset_preparation import check_dataset, render_tokens
from jobs.runs.preflight import freeze_parity_rows, prepare_run
from tuneyard.chats.messages import ChatExample, ChatMessage, FunctionCall, ToolCall
from tuneyard.configs.finetune import FinetuneConfig, ParityConfig
from tuneyard.core.errors import CheckpointError, DatasetError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity_rows import ParitySample
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.row_checks import RowChecker


def run_config(
    folder: Path, base: Path, rows: list[tuple[str, str]], heldout: list[tuple[str, str]], **data: object
) -> FinetuneConfig:
    for name, pairs in (("train", rows), ("heldout", heldout)):
        lines = [
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
            for q, a in pairs
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    files = {"train": str(folder / "train.jsonl"), "heldout": str(folder / "heldout.jsonl")}
    return FinetuneConfig.model_validate(
        {"run": {"name": "r", "model_name": "m"}, "model": {"base": str(base)}, "data": files | data}
    )


ROWS = [("q1", "a1"), ("q2", "a2")]


def test_prepares_tokens_and_a_fingerprint_of_all_inputs(tiny_oss: Path, tmp_path: Path) -> None:
    one = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])
    prepared = prepare_run(one)
    assert prepared.train_tokens.rows == 2
    assert prepared.heldout_tokens is not None
    same = prepare_run(one).inputs_fingerprint(one)
    assert prepared.inputs_fingerprint(one) == same
    training = one.training.model_copy(update={"learning_rate": 0.5})
    assert prepared.inputs_fingerprint(one.model_copy(update={"training": training})) != same
    other = run_config(tmp_path, tiny_oss, [*ROWS, ("q4", "a4")], [("q3", "a3")])
    assert prepare_run(other).inputs_fingerprint(other) != same


def test_heldout_rows_in_the_training_data_are_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"1 error in the held-out data:\n  heldout.jsonl:2: this held-out row equals .* \[leakage\]"
    ):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3"), ("q1", "a1")]))


def test_heldout_rows_that_differ_only_in_case_and_punctuation_are_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"heldout.jsonl:1: this held-out row .* except for case, spaces and"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("Q1!", "a1")]))


def test_parity_rows_are_taken_from_both_files(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, ROWS, [("Où est la clé?", "a3")])
    real = config.model_copy(update={"parity": ParityConfig(rows="real")})
    assert sorted(row.messages[-1].content for row in prepare_run(real).parity_rows) == ["Où est la clé?", "q1", "q2"]
    words = {word for row in prepare_run(config).parity_rows for word in row.messages[-1].content.split()}
    assert len(words) == 5  # q1 and q2 have the same shape
    assert not words & {"q1", "q2", "Où", "est", "la", "clé?"}


def test_a_prompt_that_the_served_api_refuses_is_refused_before_training(tiny_oss: Path) -> None:
    """No valid row has such a prompt today; this holds where the rules for rows and for requests part."""
    call = ToolCall(function=FunctionCall(name="now", arguments="{}"))
    question, answer = ChatMessage(role="user", content="q"), ChatMessage(role="assistant", content="a")
    sample = ParitySample()
    sample.add(ChatExample(messages=(question, answer.model_copy(update={"tool_calls": (call,)}), question, answer)))
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    with pytest.raises(
        DatasetError, match=r"The served API would refuse a prompt of this data: messages.2 \(user\) comes"
    ):
        freeze_parity_rows(sample, codec, keeps_words=False)


def test_data_that_changes_while_it_is_read_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, [("q0", "a0"), *ROWS], [("q3", "a3")])
    checked = check_dataset(config.data.train, config, RowChecker(), ParitySample(), is_heldout=False)
    run_config(tmp_path, tiny_oss, [*ROWS, ("q4", "a4")], [("q3", "a3")])
    with pytest.raises(DatasetError, match=r"train.jsonl: changed while it was read"):
        render_tokens(config.data.train, checked, config, packed=False)


def test_dropping_everything_is_an_error(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 rows are longer than data.max_length=16"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")], max_length=16, too_long="drop"))


def test_rows_are_dropped_by_name_and_counted(tiny_oss: Path, tmp_path: Path) -> None:
    rows = [*ROWS, ROWS[0], ("q4", "a\x07")]
    config = run_config(
        tmp_path,
        tiny_oss,
        rows,
        [("q3", "a3"), ROWS[1]],
        problems={"duplicate": "drop", "control_character": "note", "leakage": "drop"},
    )
    prepared = prepare_run(config)
    assert (prepared.train.rows, prepared.train_tokens.rows) == (3, 3)
    assert prepared.train.counts.dropped == {"duplicate": 1}
    assert prepared.train.counts.of("note") == {"control_character": 1}
    assert prepared.heldout is not None
    assert prepared.heldout.counts.dropped == {"leakage": 1}
    assert prepared.heldout_tokens is not None
    assert prepared.heldout_tokens.rows == 1
    summary = "\n".join(data_summary(prepared, config))
    assert "left out 1 training chat by name: 1 × duplicate" in summary
    assert "notes on the training data: 1 × control_character" in summary
    without = prepare_run(run_config(tmp_path, tiny_oss, [*ROWS, rows[3]], [("q3", "a3")]))
    assert without.inputs_fingerprint(config) == prepared.inputs_fingerprint(config)


def test_the_summary_names_a_system_message_that_all_training_chats_share(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])
    assert not any("system message" in line for line in data_summary(prepare_run(config), config))
    file = Path(config.data.train)
    first = {"role": "system", "content": "You answer for Acme."}
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("\n".join(json.dumps(row | {"messages": [first, *row["messages"]]}) for row in rows))
    expected = (
        "All training chats begin with the system message 'You answer for Acme.': send it with every request too."
    )
    assert data_summary(prepare_run(config), config)[1] == expected


def test_preference_pairs_are_prepared_as_pairs(tiny_oss: Path, tmp_path: Path) -> None:
    """OpenAI's rows. What serving proves later are their prompts; without dpo they are refused, with the fix."""
    for name in ("train", "heldout"):
        rows = [
            {
                "input": {"messages": [{"role": "user", "content": f"{name} {number}"}]},
                "preferred_output": [{"role": "assistant", "content": "yes"}],
                "non_preferred_output": [{"role": "assistant", "content": "no, not at all"}],
            }
            for number in range(3)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sections = {
        "run": {"name": "r", "model_name": "m"},
        "model": {"base": str(tiny_oss)},
        "data": {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "heldout")},
    }
    config = FinetuneConfig.model_validate(sections | {"training": {"objective": "dpo"}})
    prepared = prepare_run(config)
    assert (prepared.train.rows, prepared.train_tokens.rows) == (3, 3)
    assert data_summary(prepared, config)[0].startswith("3 preference pairs, 3 held out; 3 training rows")
    assert sorted(row.messages[-1].role for row in prepared.parity_rows) == ["user"] * 6
    beta = FinetuneConfig.model_validate(sections | {"training": {"objective": "dpo", "dpo": {"beta": 0.2}}})
    assert prepared.inputs_fingerprint(beta) != prepared.inputs_fingerprint(config)
    with pytest.raises(DatasetError, match=r"train.jsonl:1: .*Set training.objective=dpo to .* \[preference_pair\]"):
        prepare_run(FinetuneConfig.model_validate(sections))
    chats = run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")]).model_dump(mode="json")
    chats["training"]["objective"], chats["data"]["preference"] = "dpo", "pairs"
    with pytest.raises(DatasetError, match=r"train.jsonl:1: the row is of the format OpenAI chat.* \[no_pair\]"):
        prepare_run(FinetuneConfig.model_validate(chats))


def test_errors_of_all_rows_are_listed_with_their_names(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, [("q", "<think>x</think>a"), ROWS[0]], [("q3", "a3")])
    with pytest.raises(DatasetError, match=r"1 error in the training data:\n  train.jsonl:1: .* \[text_markup\]"):
        prepare_run(config)
    data = config.data.model_copy(update={"text_markup": "convert"})
    assert prepare_run(config.model_copy(update={"data": data})).train.rows == 2


def test_a_row_that_is_too_long_is_named(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, [*ROWS, ("long " * 300, "a")], [("q3", "a3")], max_length=256)
    with pytest.raises(
        DatasetError, match=r"1 row is longer than data.max_length=256:\n  train.jsonl:3 turn 1: \d+ tok"
    ):
        prepare_run(config)
    data = config.data.model_copy(update={"too_long": "drop"})
    dropped = config.model_copy(update={"data": data})
    assert prepare_run(dropped).train_tokens.rows == 2


def test_a_missing_or_foreign_base_is_named(tiny_oss_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere holds no config.json.*in Hugging Face format"):
        prepare_run(run_config(tmp_path, tmp_path / "nowhere", ROWS, []))
    with pytest.raises(CheckpointError, match=r"Build it with: python -m jobs.build_base_model smol-oss-135m"):
        prepare_run(run_config(tmp_path, tmp_path / "smol-oss-135m", ROWS, []))
    path = tiny_oss_copy / "config.json"
    path.write_text(path.read_text().replace("GptOssForCausalLM", "LlamaForCausalLM"))
    with pytest.raises(CheckpointError, match=r"is \['LlamaForCausalLM'\], but Tuneyard finetunes GPT-OSS"):
        prepare_run(run_config(tmp_path, tiny_oss_copy, ROWS, []))


def test_a_max_length_over_the_models_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"data.max_length=9000000 is over the base's max_position_embeddings"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")], max_length=9_000_000))
