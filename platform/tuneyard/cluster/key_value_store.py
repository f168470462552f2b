"""Short texts that every process of a Ray cluster sees, without an actor to keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

TIMEOUT_S = 10.0
"""Without one a call waits a minute for a head that is gone, deaf to Ctrl-C, and then Ray ends the process."""


class Board(Protocol):
    """Texts by key."""

    def put(self, key: str, text: str) -> None: ...

    def found(self, prefix: str) -> dict[str, str]: ...

    def remove(self, key: str) -> None: ...

    def remove_all(self, prefix: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ClusterBoard:
    """Board in the key-value store of the connected Ray cluster's head. Calls block, about 0.3 ms each.

    Raises RayError when the head does not answer for TIMEOUT_S.
    """

    namespace: str

    def put(self, key: str, text: str) -> None:
        _store().internal_kv_put(key.encode(), text.encode(), True, self._space, timeout=TIMEOUT_S)

    def found(self, prefix: str) -> dict[str, str]:
        store = _store()
        keys = store.internal_kv_keys(prefix.encode(), self._space, timeout=TIMEOUT_S)
        # One that was removed in between has no value.
        values = {key.decode(): store.internal_kv_get(key, self._space, timeout=TIMEOUT_S) for key in keys}
        return {key: value.decode() for key, value in values.items() if value is not None}

    def remove(self, key: str) -> None:
        _store().internal_kv_del(key.encode(), False, self._space, timeout=TIMEOUT_S)

    def remove_all(self, prefix: str) -> None:
        _store().internal_kv_del(prefix.encode(), True, self._space, timeout=TIMEOUT_S)

    @property
    def _space(self) -> bytes:
        return self.namespace.encode()


def _store() -> Any:
    # The client under Ray's own functions of this module, which take no timeout.
    from ray.experimental.internal_kv import internal_kv_get_gcs_client

    return internal_kv_get_gcs_client()
