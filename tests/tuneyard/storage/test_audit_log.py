"""The audit log is only ever appended to, by any number of processes."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.core.errors import ConfigError
from tuneyard.storage.audit_log import AuditLog, digest_of, os_user

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_lines_are_appended_and_read_back(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "new" / "audit.jsonl")
    assert list(log.events()) == []
    log.append("key.create", "key 1 (ci)\nwith a line break", after="ab", details={"changed": ["x"]})
    before = log.path.read_bytes()
    log.append("prompt.render", "tiny", actor="admin key")
    assert log.path.read_bytes().startswith(before)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    first, second = log.events()
    assert (first.actor, first.target, first.before, first.after) == (
        os_user(),
        "key 1 (ci)\nwith a line break",
        None,
        "ab",
    )
    assert (second.actor, second.action, first.time <= second.time) == ("admin key", "prompt.render", True)
    assert first.time.endswith("+00:00")


def test_a_name_with_any_line_separator_is_read_back(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    targets = [f"key 1 (a{separator}b)" for separator in "\n\r\v\f\x1c\x85\u2028\u2029"]
    for target in targets:
        log.append("key.create", target)
    assert [event.target for event in log.events()] == targets


def test_writers_at_once_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"

    def write(writer: int) -> None:
        for number in range(20):
            AuditLog(path).append("key.create", f"{writer}-{number}" + "x" * 10_000)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert len({event.target[:6] for event in AuditLog(path).events()}) == 80


def test_a_log_that_cannot_be_written_or_read_is_an_error(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)  # a folder
    with pytest.raises(ConfigError, match="cannot be written"):
        log.append("key.create", "key 1")
    with pytest.raises(ConfigError, match="cannot be read"):
        list(log.events())
    broken = AuditLog(tmp_path / "audit.jsonl")
    broken.append("key.create", "key 1")
    with broken.path.open("a") as file:
        file.write(json.dumps({"time": "x"}) + "\n")
    with pytest.raises(ConfigError, match=r"audit\.jsonl:2: not a line of the audit log"):
        list(broken.events())


@given(json_values, json_values)
def test_equal_values_have_equal_digests_and_others_do_not(one: object, other: object) -> None:
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest_of(one) == digest_of(other)) == is_same
