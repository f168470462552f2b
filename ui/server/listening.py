"""The page's listening socket, opened before the slow imports so that a taken port is reported at once."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence

from tuneyard.core.errors import ConfigError, PortInUseError


def open_socket(host: str, port: int) -> socket.socket:
    """Opens the listening socket; port 0 picks a free port.

    Raises PortInUseError for a taken port and ConfigError for an address that cannot be listened on.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port {port}: a port is a number from 0 to 65535.")
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as e:
        if e.errno == errno.EADDRINUSE:
            raise PortInUseError(
                f"port {port} on {host} is taken, perhaps by another chat page. "
                f"Choose another with --port {port + 1}, or any free one with --port 0."
            ) from e
        raise ConfigError(f"cannot listen on {host} port {port}: {e.strerror or e}. Check --host and --port.") from e


def describe(host: str, listener: socket.socket) -> str:
    """The line that says where the page is, and who may use it if other machines can reach it."""
    name = f"[{host}]" if ":" in host else host
    where = f"Chat page: http://{name}:{listener.getsockname()[1]}  (Ctrl-C ends it)"
    if is_loopback(host):
        return where
    return f"{where}\nOther machines can reach {host}: each person signs in with an API key."


def served_hosts(host: str, more: Sequence[str]) -> tuple[str, ...]:
    """The names by which browsers may address the page, `more` included; none if other machines can reach it.

    Other machines know this one by names that cannot be listed here.
    """
    return ("127.0.0.1", "localhost", "::1", host, *more) if is_loopback(host) else ()


def is_loopback(host: str) -> bool:
    """True if only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
