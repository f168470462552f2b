"""The hard stop of HAProxy follows the longest answer, and is never shortened."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tuneyard.cluster.haproxy import HARD_STOP_VARIABLE, MARGIN_S, NO_LIMIT_S, raise_hard_stop, required_hard_stop_s
from tuneyard.configs.replicas import ReplicaConfig

TIMEOUTS = st.floats(0.01, 10_000)


@given(st.lists(TIMEOUTS, min_size=1))
def test_the_required_hard_stop_is_longer_than_every_answer(timeouts_s: list[float]) -> None:
    required_s = required_hard_stop_s(timeouts_s)
    assert all(timeout_s + MARGIN_S <= required_s for timeout_s in timeouts_s)
    assert required_s < max(timeouts_s) + MARGIN_S + 1


def test_answers_without_a_limit_get_a_day() -> None:
    assert required_hard_stop_s([600, None]) == NO_LIMIT_S


@given(st.one_of(st.none(), st.text(max_size=5), st.integers(0, 2000).map(str)), st.integers(1, 1000))
def test_a_hard_stop_in_the_environment_is_kept_exactly_when_it_is_long_enough(
    present: str | None, required_s: int
) -> None:
    environment = {} if present is None else {HARD_STOP_VARIABLE: present}
    raise_hard_stop(environment, required_s)
    is_long_enough = present is not None and present.isascii() and present.isdigit() and int(present) >= required_s
    assert environment[HARD_STOP_VARIABLE] == (present if is_long_enough else str(required_s))


def test_the_serve_image_and_the_manifest_have_the_default() -> None:
    default_s = required_hard_stop_s([ReplicaConfig().answer_timeout_s])
    image = Path("platform/images/serve.Dockerfile").read_text(encoding="utf-8")
    assert f"ENV {HARD_STOP_VARIABLE}={default_s}\n" in image
    manifest = Path("platform/kuberay/rayservice.yaml").read_text(encoding="utf-8")
    assert re.search(rf'{HARD_STOP_VARIABLE}, value: "{default_s}"', manifest)
