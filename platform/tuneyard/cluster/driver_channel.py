"""What workers tell the driver of their job.

Over a Board and not through an actor such as Ray's own queue: an idle actor is a process that wakes a hundred times a
second, on a small machine on the workers' cores.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import Any

from tuneyard.cluster.key_value_store import Board, ClusterBoard

NAMESPACE = "tuneyard-channels"


class DriverChannel:
    """Messages (JSON values) to the process that made it. Copies of it, sent to workers, send into the same.

    Raises RayError when the cluster does not answer.
    """

    def __init__(self, board: Board | None = None) -> None:
        self._board = board or ClusterBoard(NAMESPACE)
        self._name = uuid.uuid4().hex
        self._last_ns = 0

    def send(self, message: Any) -> None:
        """Returns when the message is kept. Messages of one process are received in the order sent."""
        # Keys are read sorted, and clocks may be set back.
        self._last_ns = max(time.time_ns(), self._last_ns + 1)
        self._board.put(f"{self._name}/{self._last_ns:020d}-{uuid.uuid4().hex}", json.dumps(message))

    def receive(self) -> list[Any]:
        """Those not received yet; empty if there are none."""
        found = self._board.found(f"{self._name}/")
        for key in found:
            self._board.remove(key)
        return [json.loads(found[key]) for key in sorted(found)]

    def close(self) -> None:
        """Forgets what nobody received, if the cluster is still there."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            self._board.remove_all(f"{self._name}/")
