"""Folders of saved answers: every job is read once, in whatever form it was saved; all else is data."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cli.openai_import.export_folder import ExportFolder
from tuneyard.core.errors import DatasetError


def job(number: int, **values: Any) -> dict[str, Any]:
    return {"object": "fine_tuning.job", "id": f"ftjob-{number}", "created_at": number, "status": "succeeded"} | values


def page(*objects: Any) -> dict[str, Any]:
    return {"object": "list", "data": list(objects), "has_more": False}


def save(folder: Path, **files: str) -> ExportFolder:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_jsonl", ".jsonl").replace("_json", ".json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return ExportFolder.read(folder)


FORMS = {
    "object_json": lambda jobs: json.dumps(jobs[0], indent=2),
    "array_json": lambda jobs: json.dumps(jobs),
    "page_json": lambda jobs: json.dumps(page(*jobs)),
    "lines_jsonl": lambda jobs: "\n\n".join(map(json.dumps, jobs)),
    "pages_jsonl": lambda jobs: "\n".join(json.dumps(page(one)) for one in jobs),
}


@given(st.lists(st.tuples(st.sampled_from(sorted(FORMS)), st.lists(st.integers(0, 30), min_size=1)), min_size=1))
def test_each_job_is_read_once_in_any_form(saved: list[tuple[str, list[int]]]) -> None:
    expected = set()
    with tempfile.TemporaryDirectory() as name:
        for place, (form, numbers) in enumerate(saved):
            expected |= set(numbers[:1] if form == "object_json" else numbers)
            found = save(Path(name), **{f"at{place}__{form}": FORMS[form]([job(number) for number in numbers])})
    assert [one["created_at"] for one in found.jobs] == sorted(expected)
    assert found.data == []


@given(st.sampled_from(["a.json", "a.jsonl", "a.csv"]), st.binary(max_size=60), st.booleans())
def test_any_other_file_is_data_or_named(name: str, content: bytes, begins_with_a_job: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.json").write_text(json.dumps(job(1)))
        first = json.dumps(job(2)).encode() + b"\n" if begins_with_a_job else b""
        Path(folder, name).write_bytes(first + content)
        try:
            found = ExportFolder.read(Path(folder))
        except DatasetError as e:
            assert name in str(e)
        else:
            assert "ftjob-1" in [one["id"] for one in found.jobs]


def test_of_two_answers_about_a_job_the_one_that_ended_counts(tmp_path: Path) -> None:
    ended, running = job(1, finished_at=9), job(1, status="running")
    found = save(tmp_path, a_json=json.dumps(ended), b_json=json.dumps(running), c_json=json.dumps(page()))
    assert found.jobs == [ended]
    assert save(tmp_path, a_json=json.dumps(running), b_json=json.dumps(ended)).jobs == [ended]


def test_data_is_found_by_id_and_by_name(tmp_path: Path) -> None:
    files = [{"object": "file", "id": f"file-{name}", "filename": f"{name}.jsonl"} for name in ("chats", "twice")]
    chat = '{"messages": []}'
    found = save(
        tmp_path,
        jobs_json=json.dumps(page(job(1))),
        files_json=json.dumps(page(*files)),
        a__chats_jsonl=chat,
        a__twice_jsonl=chat,
        b__twice_jsonl=chat,
    )
    assert found.find("file-chats") == tmp_path / "a" / "chats.jsonl"
    for name in ("file-1.jsonl", "file-2", "file-3-chats.jsonl"):
        (tmp_path / name).write_text(chat)
    found = ExportFolder.read(tmp_path)
    assert [found.find(f"file-{number}").name for number in (1, 2, 3)] == [
        "file-1.jsonl",
        "file-2",
        "file-3-chats.jsonl",
    ]
    with pytest.raises(DatasetError, match=r"file-twice \(twice.jsonl\) may be any of .*Name the right one"):
        found.find("file-twice")
    with pytest.raises(DatasetError, match=r"has no file file-none\. Save its content there, as file-none\.jsonl"):
        found.find("file-none")


def test_a_folder_without_jobs_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        ExportFolder.read(tmp_path / "none")
    with pytest.raises(DatasetError, match=r"has an object `fine_tuning\.job`"):
        save(tmp_path, chats_jsonl='{"messages": []}\n')
    with pytest.raises(DatasetError, match=r"a\.json: no JSON"):
        save(tmp_path, a_json="{")
    (tmp_path / "a.json").unlink()
    with pytest.raises(DatasetError, match=r"b\.jsonl:2: no JSON"):
        save(tmp_path, b_jsonl=json.dumps(job(1)) + "\n{")
