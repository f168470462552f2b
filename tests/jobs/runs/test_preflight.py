"""Preflight: every mistake in a run is reported before anything starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.runs.dataset_preparation import check_dataset, render_tokens
from jobs.runs.preflight import prepare_run
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, DatasetError
from tuneyard.harmony.parity_rows import ParitySample
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
    with pytest.raises(DatasetError, match=r"1 held-out row.*\n  heldout.jsonl:2: this held-out row equals a training"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3"), ("q1", "a1")]))


def test_heldout_rows_that_differ_only_in_case_and_punctuation_are_refused(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"heldout.jsonl:1: this held-out row .* except for case, spaces and"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("Q1!", "a1")]))


def test_parity_rows_are_taken_from_both_files(tiny_oss: Path, tmp_path: Path) -> None:
    rows = prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")])).parity_rows
    assert sorted(row.messages[-1].content for row in rows) == ["q1", "q2", "q3"]


def test_data_that_changes_while_it_is_read_is_refused(tiny_oss: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path, tiny_oss, [("q0", "a0"), *ROWS], [("q3", "a3")])
    checked = check_dataset(config.data.train, config, RowChecker(), ParitySample(), is_heldout=False)
    run_config(tmp_path, tiny_oss, [*ROWS, ("q4", "a4")], [("q3", "a3")])
    with pytest.raises(DatasetError, match=r"train.jsonl: changed while it was read"):
        render_tokens(config.data.train, checked, config, packed=False)


def test_dropping_everything_is_an_error(tiny_oss: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"2 rows are longer than data.max_length=16"):
        prepare_run(run_config(tmp_path, tiny_oss, ROWS, [("q3", "a3")], max_length=16, too_long="drop"))


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
