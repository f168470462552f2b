"""What the commands of a failed test have logged: their output, and the logs of the Ray workers that they started."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import psutil

MAX_CHARACTERS = 20_000
"""Of one log: its end."""

SOCKET_OPTION = "--raylet_socket_name="
"""The option of Ray's node process whose value is `SESSION/sockets/raylet`."""


class LoggingCommand(Protocol):
    """A running command."""

    @property
    def output(self) -> str: ...

    def descendants(self, name_part: str = "") -> list[psutil.Process]: ...


def read_logs(command: LoggingCommand) -> Iterator[tuple[str, str]]:
    """Title and text of each log of a running command. Of workers, those with an error."""
    yield "output of a command", command.output[-MAX_CHARACTERS:]
    for folder in sorted(session_folders(command.descendants(SOCKET_OPTION))):
        for file in sorted(folder.glob("logs/worker-*.err")):
            text = file.read_text(encoding="utf-8", errors="replace")
            if "Traceback" in text:
                yield f"{file.name}, the log of a worker of this command", text[-MAX_CHARACTERS:]


def session_folders(processes: Iterable[psutil.Process]) -> set[Path]:
    """The session folders of Ray, of those of the processes that are nodes of it."""
    folders = set()
    for process in processes:
        try:
            options = process.cmdline()
        except psutil.Error:
            continue
        sockets = [option for option in options if option.startswith(SOCKET_OPTION)]
        folders |= {Path(socket.removeprefix(SOCKET_OPTION)).parents[1] for socket in sockets}
    return folders
