"""The doctor warns of a hard stop that is shorter than answers may take, with both numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cluster.haproxy import required_hard_stop_s
from tuneyard.configs.replicas import ReplicaConfig
from tuneyard.doctor.serve_checks import check_hard_stop

REQUIRED_S = required_hard_stop_s([ReplicaConfig().answer_timeout_s])


@given(st.integers(1, 2 * REQUIRED_S))
def test_a_hard_stop_is_a_warning_exactly_when_it_is_too_short(running_s: int) -> None:
    (finding,) = check_hard_stop(running_s)
    assert (finding.severity == "warning") == (running_s < REQUIRED_S)
    assert f"{running_s} s" in finding.what
    if finding.severity == "warning":
        assert f"{REQUIRED_S} s" in finding.what
        assert f"RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S={REQUIRED_S}" in finding.fix


def test_nothing_is_said_where_no_haproxy_runs() -> None:
    assert list(check_hard_stop(None)) == []
