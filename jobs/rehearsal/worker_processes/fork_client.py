"""The command that Ray starts for a worker: requests a fork from the fork server, and waits until the fork has ended.

usage: python -I -S fork_client.py FOLDER SCRIPT [ARGUMENT ...]

Runs as a program and imports the standard library only, because each worker has one such process beside it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

SOCKET = "fork.sock"
"""The server's socket in FOLDER, which only this user can enter."""


def request_fork(folder: str, arguments: list[str]) -> None:
    """Requests a fork that runs `arguments` with this process's environment and streams. Returns when it has ended."""
    request = {"arguments": arguments, "environment": dict(os.environ), "directory": str(Path.cwd())}
    # The name of a Unix socket has 107 bytes at most, and the folder's may be longer.
    os.chdir(folder)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(SOCKET)
        socket.send_fds(connection, [b"\n"], [0, 1, 2])
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        # The fork holds the other end, and writes nothing.
        connection.recv(1)


if __name__ == "__main__":
    if sys.argv[1:] == ["--help"]:
        print("usage: " + (__doc__ or "").partition("usage: ")[2])
    else:
        request_fork(sys.argv[1], sys.argv[2:])
