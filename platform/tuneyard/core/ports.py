"""TCP ports: whether one is free, and a free one."""

from __future__ import annotations

import socket

from tuneyard.core.errors import PortInUseError


def check_port_free(host: str, port: int, fix: str) -> None:
    """Raises PortInUseError if a process listens on the port. `fix` ends the message, for example `--port 8001`."""
    with socket.socket() as probe:
        # Servers set SO_REUSEADDR too: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as e:
            raise PortInUseError(
                f"Port {port} on {host} is taken ({e.strerror}). Stop the process that listens there, or choose "
                f"another port: {fix}"
            ) from e


def free_port() -> int:
    """A port of 127.0.0.1 on which no process listens at the time of the call."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
