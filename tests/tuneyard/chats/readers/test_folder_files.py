"""Folders of data files: bookkeeping is skipped, and what belongs apart is never read together."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tuneyard.chats.raw_rows import read_raw_rows
from tuneyard.chats.readers.splits import split_of
from tuneyard.core.errors import DatasetError


def write(folder: Path, *names: str, content: str | None = None) -> str:
    """Writes a row that holds its file's name into each file. Returns the folder."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"prompt": name, "completion": "a"}) if content is None else content)
    return str(folder)


def read(location: str) -> list[str]:
    """The prompts of the rows."""
    return [row.value["prompt"] for row in read_raw_rows(location)]


def test_sparks_output_is_read_without_empty_parts_and_bookkeeping(tmp_path: Path) -> None:
    parts = ["part-00000-9b1f-c000.json", "part-00002-9b1f-c000.json", "part-00003"]
    write(tmp_path, *parts)
    write(tmp_path, "_SUCCESS", "part-00001-9b1f-c000.json", ".part-00000-9b1f-c000.json.crc", content="")
    write(tmp_path, "_temporary/0/part-00009.json", "_committed_1", "_started_1")
    assert read(str(tmp_path)) == parts


def test_hidden_files_and_information_about_the_dataset_are_no_data(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "B.JSONL")
    write(tmp_path, "._a.jsonl", "__MACOSX/._b.jsonl", content="\x00\x05\x16\x07")
    write(tmp_path, ".DS_Store", "README.md", "LICENSE", "dataset_infos.json", ".git/x.jsonl")
    assert read(str(tmp_path)) == ["B.JSONL", "a.jsonl"]


def test_nested_shards_are_read_in_order_and_named_with_their_folder(tmp_path: Path) -> None:
    names = ["2023/01/a.jsonl", "2023/02/a.jsonl", "2024/a.jsonl"]
    assert read(write(tmp_path, *names)) == names
    assert [row.where for row in read_raw_rows(str(tmp_path))] == [f"{name}:1" for name in names]


def test_files_beside_folders_of_files_are_refused_and_a_pattern_says_which(tmp_path: Path) -> None:
    folder = write(tmp_path, "a.jsonl", "old/b.jsonl")
    with pytest.raises(DatasetError, match=r"holds files, and folders with files \(old\)\. Say which to read"):
        read(folder)
    assert read(f"{folder}/*") == ["a.jsonl"]
    assert read(f"{folder}/*.jsonl") == ["a.jsonl"]
    assert read(f"{folder}/**/*") == ["a.jsonl", "old/b.jsonl"]
    assert read(f"{folder}/o?d/*") == ["old/b.jsonl"]
    with pytest.raises(DatasetError, match="holds no dataset"):
        read(f"{folder}/*.csv")


@pytest.mark.parametrize(
    ("names", "splits", "choice"),
    [
        (["data/train-00000-of-00001.jsonl", "data/test-00000-of-00001.jsonl"], "test, train", "data/train-*"),
        (["train.jsonl", "valid.jsonl", "eval.jsonl"], "test, train, validation", "valid.jsonl"),
        (["train/0.jsonl", "validation/0.jsonl"], "train, validation", "validation/*"),
        (["split=train/0.jsonl", "split=test/0.jsonl"], "test, train", "split=train/*"),
        (["train_sft-00000-of-00001.jsonl", "train_gen-00000-of-00001.jsonl"], "train_gen, train_sft", "train_sft-*"),
        (["brindle_train.jsonl", "brindle_heldout.jsonl"], "heldout, train", "brindle_train.jsonl"),
        (["chats.jsonl", "chats_test.jsonl"], "test and other files (chats.jsonl)", "chats_test.jsonl"),
    ],
)
def test_splits_are_never_mixed(tmp_path: Path, names: list[str], splits: str, choice: str) -> None:
    folder = write(tmp_path, *names)
    with pytest.raises(DatasetError) as caught:
        read(folder)
    assert f"these files are of several splits, {splits}, and splits are never mixed" in str(caught.value)
    chosen = str(caught.value).partition("Choose one: ")[2]
    assert chosen == f"{folder}/{choice}"
    assert len(read(chosen)) == 1
    with pytest.raises(DatasetError, match="splits are never mixed") as caught:
        read(f"{folder}/**/*")
    assert str(caught.value).endswith(f"Choose one: {chosen}")


def test_shards_of_one_split_are_one_dataset(tmp_path: Path) -> None:
    names = ["train-00000-of-00002.jsonl", "train-00001-of-00002.jsonl"]
    assert read(write(tmp_path / "a", *names)) == names
    assert read(write(tmp_path / "b", "more.jsonl", "train.jsonl")) == ["more.jsonl", "train.jsonl"]
    assert read(write(tmp_path / "c", "2024-test-drive.jsonl", "2024-tyres.jsonl")) == [
        "2024-test-drive.jsonl",
        "2024-tyres.jsonl",
    ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00003.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "validation"),
        ("chats_dev.jsonl.gz", "validation"),
        ("held-out.jsonl", "heldout"),
        ("en/test/x.jsonl", "test"),
        ("Testing.CSV", "test"),
        ("contest.jsonl", ""),
        ("part-00000.json", ""),
        ("latest-training-run-chats.jsonl", ""),
    ],
)
def test_the_split_is_told_from_the_path(name: str, split: str) -> None:
    assert split_of(name) == split


def test_a_clone_with_several_configs_names_them_and_one_can_be_chosen(tmp_path: Path) -> None:
    folder = write(tmp_path, "single/a.jsonl", "multi/a.jsonl")
    card = "---\nconfigs:\n- config_name: single\n  data_files: single/a.jsonl\n- config_name: multi\n"
    (tmp_path / "README.md").write_text(card + "  data_files: multi/a.jsonl\n---\n# Chats\n")
    with pytest.raises(DatasetError) as caught:
        read(folder)
    assert f"declares the configs single, multi, which are never mixed. Give hf:{folder}#single" in str(caught.value)
    assert read(f"hf:{folder}#multi") == ["multi/a.jsonl"]
    for location in (f"hf:{folder}", f"hf:{folder}#other"):
        with pytest.raises(DatasetError, match=r"the dataset has the configs single, multi\. Choose one: hf:.*#single"):
            read(location)


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds files that are not read: more.xlsx\. Unpack or convert them"):
        read(write(tmp_path / "a", "a.jsonl", "more.xlsx"))
    with pytest.raises(DatasetError, match="is a Delta table"):
        read(write(tmp_path / "b", "a.jsonl", "_delta_log/0.json"))
    with pytest.raises(DatasetError, match=r"all of its files are empty: a.jsonl"):
        read(write(tmp_path / "c", "a.jsonl", content=""))
    write(tmp_path / "d", "part-0.csv", content="prompt,completion\nq,a\n")
    write(tmp_path / "d", "part-1.csv", content="How do I pay?,By card\nq,a\n")
    with pytest.raises(DatasetError, match=r"part-1.csv has the columns .*a CSV file needs its header"):
        read(str(tmp_path / "d"))


def test_pipes_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for location in (str(tmp_path / "pipe"), "/dev/null"):
        with pytest.raises(DatasetError, match=r": this is a pipe or a device, which can be read once only"):
            read(location)
