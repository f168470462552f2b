"""`tuneyard audit` shows what administrators did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuneyard.cli.main import main
from tuneyard.storage.audit_log import AuditLog, os_user


def test_actions_are_recorded_and_selected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    assert main(["audit"]) == 0
    assert "no such actions in" in capsys.readouterr().out
    assert main(["keys", "create", "ci"]) == 0
    secret, line, *_ = capsys.readouterr().out.splitlines()
    key_id = line.split()[0]
    assert main(["keys", "update", key_id, "--tokens-per-month", "5000", "--max-streams", "none"]) == 0
    assert main(["keys", "revoke", key_id]) == 0
    AuditLog().append("prompt.render", "tiny", actor="admin key")
    capsys.readouterr()
    assert main(["audit"]) == 0
    created, updated, revoked, rendered = capsys.readouterr().out.splitlines()
    assert f"{os_user()}@" in created
    assert f"key.create  key {key_id} (ci)  - -> " in created
    assert "key.update" in updated
    assert "changed=max_streams=None,tokens_per_month=5000" in updated
    digests = [line.split(" -> ")[1].split()[0] for line in (created, updated)]
    assert digests[0] != digests[1]
    assert f"{digests[0]} -> {digests[1]}" in updated
    assert revoked.endswith(f"{digests[1]} -> -")
    assert "admin key@" in rendered
    assert secret not in (tmp_path / "audit.jsonl").read_text()
    for options, count in (
        (["--action", "key"], 3),
        (["--action", "key.update"], 1),
        (["--action", "ke"], 0),
        (["--days", "1"], 4),
        (["--since", "2999-01-01"], 0),
    ):
        assert main(["audit", "--json", *options]) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert len(events) == count
    assert main(["audit", "--since", "yesterday"]) == 1
    assert main(["audit", "--days", "0"]) == 1
    assert "write a date such as 2026-01-31" in capsys.readouterr().err
