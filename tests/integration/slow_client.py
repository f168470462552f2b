"""A client that sends the headers of a request slowly."""

from __future__ import annotations

import contextlib
import socket
import time

DEADLINE_S = 60.0


def send_headers_slowly(root: str) -> bytes:
    """Sends a byte of headers every 0.2 s to the server at the URL, until it answers or closes the connection.

    Returns what the server sent. Fails if it does neither within DEADLINE_S.
    """
    host, port = root.removeprefix("http://").split(":")
    deadline = time.monotonic() + DEADLINE_S
    with socket.create_connection((host, int(port)), timeout=0.2) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        while time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                return connection.recv(1000)
            connection.sendall(b"a")
    raise AssertionError(f"the server waited for headers for more than {DEADLINE_S} s")
