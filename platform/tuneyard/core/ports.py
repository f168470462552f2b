"""Ports, checked before anything is started that needs them."""

from __future__ import annotations

import socket

from tuneyard.core.errors import PortInUseError


def check_port_free(host: str, port: int, fix: str) -> None:
    """Raises PortInUseError, with `fix` as the way out, when something listens on the port."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise PortInUseError(
                f"Port {port} on {host} is taken ({e.strerror}). Stop what listens there, or choose another: {fix}"
            ) from e


def free_port() -> int:
    """A port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
