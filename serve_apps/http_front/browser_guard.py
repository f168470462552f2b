"""BrowserGuard: refuses what a web page of another site could send to the API.

A browser reaches loopback addresses too. A page of another site can send a request whose type is not JSON without
asking, and under a host name of its own (DNS rebinding) it can also read the answer.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Any

from fastapi.responses import JSONResponse

from tuneyard.api.wire.errors import error_body
from tuneyard.core.errors import MediaTypeError, OriginError, RequestError

ANY_HOST = "*"

PROBE_PATHS = frozenset(("/healthz", "/readyz"))
"""Routes that load balancers and Kubernetes ask by a node's address; they tell nothing but the engine's load."""

SCRAPED_PATHS = frozenset(("/metrics", "/version"))
"""Routes that Prometheus reads by the address of a pod or node, which no configuration can list. Under an address they
are answered: a page reaches this server under a name of its own by DNS rebinding, and an address is no such name."""


class BrowserGuard:
    """ASGI middleware that checks Host, Origin and Content-Type.

    `hosts` are the names that this server has, without ports; ANY_HOST among them allows every name. `origins` are the
    web sites, such as https://app.example.com, whose pages may use the API besides this server's own. To paths that
    match one of the regular expressions `multipart_paths`, a body must be multipart/form-data instead of JSON. A page
    of another site can send such a body without asking, and its browser then adds the headers that are checked here:
    Origin, and Sec-Fetch-Site.
    """

    def __init__(
        self,
        app: Any,
        hosts: Sequence[str] = (ANY_HOST,),
        origins: Sequence[str] = (),
        multipart_paths: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._multipart_paths = [re.compile(path) for path in multipart_paths]
        self._hosts = frozenset(host.lower().strip("[]") for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not (scope["method"] == "GET" and route_path(scope) in PROBE_PATHS):
            try:
                self._check(scope, _header_values(scope))
            except RequestError as e:
                await JSONResponse(error_body(e), status_code=e.status_code)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Any, headers: dict[str, list[str]]) -> None:
        """Raises OriginError or MediaTypeError."""
        method, hosts = scope["method"], headers.get("host", [])
        may_be_address = method == "GET" and route_path(scope) in SCRAPED_PATHS
        if not self._is_served(hosts, may_be_address=may_be_address):
            raise OriginError(
                f"The request is addressed to the host {', '.join(hosts) or '(none)'!r}; this server is "
                f"{', '.join(sorted(self._hosts))}. Use one of these names, or add the name to http.allowed_hosts.",
                code="host_not_allowed",
            )
        for origin in headers.get("origin", []):
            if not self._is_allowed(origin.lower(), hosts):
                raise OriginError(
                    f"Pages of {origin!r} may not use this API. Add the origin to http.cors_origins to allow it.",
                    code="origin_not_allowed",
                )
        if method in ("POST", "PUT", "PATCH") and _may_have_body(headers):
            self._check_media_type(route_path(scope), headers)

    def _check_media_type(self, path: str, headers: dict[str, list[str]]) -> None:
        is_multipart = any(pattern.fullmatch(path) for pattern in self._multipart_paths)
        required = "multipart/form-data" if is_multipart else "application/json"
        media_types = [value.partition(";")[0].strip().lower() for value in headers.get("content-type", [])]
        if media_types != [required]:
            raise MediaTypeError(
                f"The request's Content-Type is {', '.join(media_types) or 'missing'}; it must be {required}.",
                code="unsupported_media_type",
            )
        sites = headers.get("sec-fetch-site", [])
        if is_multipart and "origin" not in headers and not set(sites) <= {"same-origin", "none"}:
            raise OriginError("Pages of another site may not send files here.", code="origin_not_allowed")

    def _is_served(self, hosts: Sequence[str], *, may_be_address: bool) -> bool:
        """Whether the request's Host is one of this server's names, or an IP address where that is enough."""
        if ANY_HOST in self._hosts:
            return True
        name = host_name(hosts[0]) if len(hosts) == 1 else ""
        return name in self._hosts or (may_be_address and _is_address(name))

    def _is_allowed(self, origin: str, hosts: Sequence[str]) -> bool:
        """Whether the origin is this server's own, by the request's Host, or a configured one."""
        scheme, _, host = origin.partition("://")
        is_own = scheme in ("http", "https") and [host] == [h.lower() for h in hosts]
        return is_own or origin in self._origins or ANY_HOST in self._origins


def host_name(host: str) -> str:
    """The name in a Host header, in lower case, without the port and without the brackets of an IPv6 address."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit():
        name = host.strip().lower()
    return name.strip("[]").rstrip(".")


def route_path(scope: Any) -> str:
    """The path below the application's own: Ray Serve leaves a model's `route_prefix` in it."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _may_have_body(headers: dict[str, list[str]]) -> bool:
    """Whether the request announces a body. openai-node sends none, and no Content-Type, to cancel a response."""
    return "transfer-encoding" in headers or headers.get("content-length", ["0"]) != ["0"] or "content-type" in headers


def _header_values(scope: Any) -> dict[str, list[str]]:
    """The values of each header by its name in lower case."""
    values: dict[str, list[str]] = {}
    for name, value in scope["headers"]:
        values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return values
