"""A key-value store that every process of a Ray cluster shares, without an actor that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

TIMEOUT_S = 10.0
"""Limit of each call. Without one, a call to a dead head blocks for a minute, ignores Ctrl-C, and then Ray ends the
process."""


class KeyValueStore(Protocol):
    """Short texts by key. Calls may raise RayError when the store cannot be reached."""

    def put(self, key: str, value: str) -> None:
        """Stores the value, replacing the key's old one."""

    def get_prefix(self, prefix: str) -> dict[str, str]:
        """Returns the keys that start with `prefix`, with their values."""

    def delete(self, key: str) -> None:
        """Deletes a key; does nothing if it does not exist."""

    def delete_prefix(self, prefix: str) -> None:
        """Deletes every key that starts with `prefix`."""


@dataclass(frozen=True, slots=True)
class RayKeyValueStore:
    """The KeyValueStore of the connected Ray cluster's head. Calls block, for about 0.3 ms each.

    Raises RayError when the head does not answer within TIMEOUT_S.
    """

    namespace: str

    def put(self, key: str, value: str) -> None:
        _gcs_client().internal_kv_put(key.encode(), value.encode(), True, self._namespace, timeout=TIMEOUT_S)

    def get_prefix(self, prefix: str) -> dict[str, str]:
        client = _gcs_client()
        keys = client.internal_kv_keys(prefix.encode(), self._namespace, timeout=TIMEOUT_S)
        values = {key.decode(): client.internal_kv_get(key, self._namespace, timeout=TIMEOUT_S) for key in keys}
        # A key that another process deleted in the meantime has no value.
        return {key: value.decode() for key, value in values.items() if value is not None}

    def delete(self, key: str) -> None:
        _gcs_client().internal_kv_del(key.encode(), False, self._namespace, timeout=TIMEOUT_S)

    def delete_prefix(self, prefix: str) -> None:
        _gcs_client().internal_kv_del(prefix.encode(), True, self._namespace, timeout=TIMEOUT_S)

    @property
    def _namespace(self) -> bytes:
        return self.namespace.encode()


def _gcs_client() -> Any:
    """Returns the client that Ray's own internal_kv functions wrap; those functions take no timeout."""
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    return internal_kv_get_gcs_client()
