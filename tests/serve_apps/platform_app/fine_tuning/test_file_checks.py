"""The files of a job, checked by the library's own rules in a process of its own."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from serve_apps.platform_app.fine_tuning.settings.file_checks import FileToCheck, ProcessFileChecker, file_check
from tests.serve_apps.platform_app.fine_tuning.test_settings import base_with
from tests.serve_apps.platform_app.fine_tuning.tuning_setup import chat_rows

PAIR = {
    "input": {"messages": [{"role": "user", "content": "hi"}]},
    "preferred_output": [{"role": "assistant", "content": "Hello!"}],
    "non_preferred_output": [{"role": "assistant", "content": "No."}],
}


async def test_files_are_checked_and_messages_name_the_file_by_its_id(tmp_path: Path) -> None:
    checker = ProcessFileChecker()

    async def check(*contents: bytes, is_dpo: bool = False) -> tuple[int, str | None, str]:
        files = []
        for number, content in enumerate(contents):
            path = tmp_path / f"file-{number}.jsonl"
            path.write_bytes(content)
            files.append(FileToCheck(("training_file", "validation_file")[number], f"file-{number}", str(path)))
        request = file_check(base_with(), files, is_dpo=is_dpo)
        # The base of these tests has no tokenizer.
        report = await checker.check(dataclasses.replace(request, tokenizer_folder=None))
        return report.rows, report.param, report.problem

    async def instructions(content: bytes) -> str | None:
        (tmp_path / "shared.jsonl").write_bytes(content)
        # The held-out chats say nothing of what is trained.
        (tmp_path / "heldout.jsonl").write_bytes(chat_rows(1, 20))
        files = [
            FileToCheck("training_file", "file-0", str(tmp_path / "shared.jsonl")),
            FileToCheck("validation_file", "file-1", str(tmp_path / "heldout.jsonl")),
        ]
        request = file_check(base_with(), files, is_dpo=False)
        return (await checker.check(dataclasses.replace(request, tokenizer_folder=None))).instructions

    pairs = (json.dumps(PAIR) + "\n").encode()
    try:
        assert await check(chat_rows(3), chat_rows(2, 10)) == (3, None, "")
        assert await check(pairs, is_dpo=True) == (1, None, "")
        rows, param, problem = await check(chat_rows(3), chat_rows(2, 1))
        assert (rows, param) == (3, "validation_file")
        assert "file-1:1" in problem
        assert str(tmp_path) not in problem
        _, param, problem = await check(chat_rows(2) + b'{"messages": 1}\nnot json\n')
        assert param == "training_file"
        assert problem.startswith("file-0: 2 errors\n")
        _, param, problem = await check(pairs)
        assert (param, "Use the method 'dpo'" in problem) == ("training_file", True)
        _, param, problem = await check(chat_rows(1), is_dpo=True)
        assert (param, "Use the method 'supervised'" in problem) == ("training_file", True)
        _, param, problem = await check(b"\n")
        assert param == "training_file"
        system = {"role": "system", "content": "You answer for Acme."}
        rows_of = [json.loads(line) for line in chat_rows(2).splitlines()]
        shared = [json.dumps({"messages": [system, *row["messages"]]}).encode() for row in rows_of]
        found = [
            await instructions(b"\n".join(content)) for content in (shared, [*shared, *chat_rows(1, 7).splitlines()])
        ]
        assert found == ["You answer for Acme.", None]
    finally:
        checker.close()
