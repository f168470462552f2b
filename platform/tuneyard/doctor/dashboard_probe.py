"""How the Ray dashboard answers a request with and without the cluster's token."""

from __future__ import annotations

from dataclasses import dataclass

JOBS_PATH = "/api/jobs/"
"""A GET lists jobs. On a dashboard that answers it without a token, a POST to it runs code."""

REFUSALS = (401, 403)
"""HTTP statuses that mean that the token is missing or wrong."""


@dataclass(frozen=True)
class DashboardProbe:
    """The dashboard's HTTP statuses; None for no answer. Empty address: the cluster has no dashboard."""

    dashboard: str = ""
    """`host:port`."""
    status_without_token: int | None = None
    status_with_token: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether the dashboard executes requests without a token."""
        return self.status_without_token is not None and self.status_without_token not in REFUSALS


def probe_dashboard(*, timeout_s: float = 10.0) -> DashboardProbe:
    """Probes the connected cluster's dashboard without a token, and with this process' token if it has one."""
    import ray
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    dashboard = ray._private.worker.get_dashboard_url()
    if not dashboard:
        return DashboardProbe()
    headers = get_auth_headers_if_auth_enabled({})
    return DashboardProbe(
        dashboard=dashboard,
        status_without_token=_http_status(dashboard, {}, timeout_s),
        status_with_token=_http_status(dashboard, headers, timeout_s) if headers else None,
    )


def _http_status(dashboard: str, headers: dict[str, str], timeout_s: float) -> int | None:
    import httpx

    try:
        # trust_env=False: the check is about the cluster's own network, so it must not go through a proxy.
        return httpx.get(
            f"http://{dashboard}{JOBS_PATH}", headers=headers, timeout=timeout_s, trust_env=False
        ).status_code
    except httpx.HTTPError:
        return None
