"""A channel for messages from a job's workers to its driver.

It uses the cluster's key-value store and not an actor, such as ray.util.queue.Queue: an idle actor is a process that
wakes up a hundred times a second, which on a small machine costs the workers CPU time.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from typing import Any

from tuneyard.cluster.key_value_store import KeyValueStore, RayKeyValueStore

NAMESPACE = "tuneyard-channels"


class DriverChannel:
    """A channel to the process that creates it. Pickled copies on workers share one channel to the driver.

    Messages are JSON values. All methods but `close` raise RayError when the cluster does not answer.
    """

    def __init__(self, store: KeyValueStore | None = None) -> None:
        self._store = store or RayKeyValueStore(NAMESPACE)
        self._name = uuid.uuid4().hex
        self._last_sent_ns = 0

    def send(self, message: Any) -> None:
        """Sends a message; it is stored when this returns. The driver receives one process' messages in order."""
        # The receiver sorts by key. A clock that is set back must not change the order.
        self._last_sent_ns = max(time.time_ns(), self._last_sent_ns + 1)
        self._store.put(f"{self._name}/{self._last_sent_ns:020d}-{uuid.uuid4().hex}", json.dumps(message))

    def receive(self) -> list[Any]:
        """Returns the messages that have arrived since the last call; empty if there are none."""
        messages = self._store.get_prefix(f"{self._name}/")
        for key in messages:
            self._store.delete(key)
        return [json.loads(messages[key]) for key in sorted(messages)]

    def close(self) -> None:
        """Deletes messages that nobody received. Does nothing when the cluster does not answer."""
        from ray.exceptions import RayError

        with contextlib.suppress(RayError):
            self._store.delete_prefix(f"{self._name}/")
