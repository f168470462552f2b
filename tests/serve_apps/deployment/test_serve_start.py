"""A Ray Serve that is slow to start is waited for; one that never starts is explained."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, GetTimeoutError, RayTaskError

from serve_apps.deployment.serve_start import repeat_until_ready
from tuneyard.core.errors import ClusterError

SLOW = (TimeoutError("HTTP proxies not available after 60s."), GetTimeoutError("Get timed out."), ActorDiedError())


class SlowServe:
    """Fails with the errors, one after another, each after its seconds; then it is ready."""

    def __init__(self, failures: list[tuple[Exception, float]]) -> None:
        self._failures: Iterator[tuple[Exception, float]] = iter(failures)
        self.seconds = 1000.0
        self.is_ready = False

    def wait(self) -> None:
        for error, seconds in self._failures:
            self.seconds += seconds
            raise error
        self.is_ready = True

    def now(self) -> float:
        return self.seconds


@given(failures=st.lists(st.tuples(st.sampled_from(SLOW), st.floats(0, 50)), max_size=12))
def test_it_is_waited_for_as_long_as_said(failures: list[tuple[Exception, float]]) -> None:
    serve, reports = SlowServe(failures), list[str]()
    elapsed = [sum(seconds for _, seconds in failures[: count + 1]) for count in range(len(failures))]
    in_time = [seconds for seconds in elapsed if seconds < 100]

    def start() -> None:
        repeat_until_ready(serve.wait, "Ray", reports.append, timeout_s=100, now=serve.now, sleep=lambda _: None)

    if len(in_time) == len(failures):
        start()
        assert serve.is_ready
    else:
        with pytest.raises(ClusterError, match=r"Ray was not ready after \d+ s: .*too busy"):
            start()
        assert not serve.is_ready
    assert len(reports) == len(in_time)


def test_another_error_is_not_repeated() -> None:
    serve = SlowServe([(ValueError("wrong option"), 0.0)])
    with pytest.raises(ValueError, match="wrong option"):
        repeat_until_ready(serve.wait, "Ray", lambda _: None)


def test_an_actor_whose_own_code_fails_is_told_at_once() -> None:
    cause = RayTaskError("__init__", "ImportError: no module", ImportError("no module"))
    with pytest.raises(ClusterError, match=r"Ray cannot start: .*no module"):
        repeat_until_ready(SlowServe([(ActorDiedError(cause), 0.0)]).wait, "Ray", lambda _: None)
