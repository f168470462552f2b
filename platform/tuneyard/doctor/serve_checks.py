"""Checks of a running Ray Serve: that its HAProxy leaves answers the time that they may take."""

from __future__ import annotations

from collections.abc import Iterator

from tuneyard.cluster.haproxy import required_hard_stop_s, too_short_fix, too_short_text
from tuneyard.configs.replicas import ReplicaConfig
from tuneyard.doctor.findings import Finding


def check_hard_stop(running_s: int | None) -> Iterator[Finding]:
    """Yields a finding about the hard stop of the running HAProxies, in seconds. None: Ray Serve runs no HAProxy.

    What the served models allow is not known here, so the hard stop is compared with the default of answer_timeout_s.
    """
    if running_s is None:
        return
    required_s = required_hard_stop_s([ReplicaConfig().answer_timeout_s])
    if running_s < required_s:
        yield Finding("warning", too_short_text(running_s, required_s), "Ray Serve", too_short_fix(required_s))
    else:
        yield Finding("ok", f"HAProxy leaves answers {running_s} s after a replica starts or stops", "Ray Serve")
