"""`tuneyard keys` creates, lists and revokes API keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneyard.api.api_keys import KeyStore
from tuneyard.cli.main import main


def test_create_list_and_revoke(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEYARD_HOME", str(tmp_path))
    assert main(["keys", "list"]) == 0
    assert "no keys in" in capsys.readouterr().out
    arguments = ["--models", "a", "b", "--expires", "30d", "--requests-per-minute", "60", "--max-streams", "2"]
    assert main(["keys", "create", "ci", *arguments]) == 0
    secret, line, *_ = capsys.readouterr().out.splitlines()
    key = KeyStore().find(secret)
    assert key is not None
    assert line.startswith(f"{key.id}  ci  a, b  until ")
    assert line.endswith("60 requests/min, 2 at a time")
    assert main(["keys", "list"]) == 0
    assert secret not in (listed := capsys.readouterr().out)
    assert line in listed
    assert main(["keys", "revoke", key.id]) == 0
    assert main(["keys", "revoke", key.id]) == 1
    assert main(["keys", "create", "x", "--expires", "soon"]) == 1
    assert main(["keys", "create", "x", "--max-streams", "0"]) == 1
    assert "write 12h, 30d or 8w" in capsys.readouterr().err
