"""What requests with the administrators' key leave in the audit log."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.http_front.admin_key import RECORD_INTERVAL_S, AdminRecorder
from tuneyard.storage.audit_log import AuditLog


class LineList(AuditLog):
    """Keeps what would be written."""

    def __init__(self) -> None:
        super().__init__(Path("unused"))
        self.lines: list[tuple[str, str]] = []

    def append(self, action: str, target: str, **_: object) -> None:
        self.lines.append((action, target))


@given(st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["run.read", "vote.read"]), st.sampled_from("ab"))))
async def test_every_use_has_a_line_of_its_own_kind_that_is_less_than_the_interval_older(
    uses: list[tuple[float, str, str]],
) -> None:
    log = LineList()
    now_s = 1000.0
    recorder = AdminRecorder(log, lambda: now_s)
    recorded_s: dict[tuple[str, str], list[float]] = {}
    for wait_s, action, target in uses:
        now_s += wait_s
        log.lines.clear()
        await recorder.record(action, target)
        assert log.lines in ([], [(action, target)])
        times = recorded_s.setdefault((action, target), [])
        times += [now_s] * len(log.lines)
        assert now_s - times[-1] < RECORD_INTERVAL_S
    for times in recorded_s.values():
        assert all(later - earlier >= RECORD_INTERVAL_S for earlier, later in itertools.pairwise(times))


async def test_without_a_log_and_where_it_cannot_be_written_requests_are_answered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await AdminRecorder(None).record("run.read", "a")
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING):
        await AdminRecorder(AuditLog(tmp_path / "file" / "audit.jsonl")).record("run.read", "a")
    assert "cannot be written" in caplog.text
