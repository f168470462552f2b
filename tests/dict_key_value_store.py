"""A key-value store without a cluster."""

from __future__ import annotations

from ray.exceptions import RaySystemError


class DictKeyValueStore:
    """KeyValueStore in this process. With `is_unreachable` its calls fail as those to a dead head do."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.is_unreachable = False

    def put(self, key: str, value: str) -> None:
        self._check_reachable()
        self.values[key] = value

    def get_prefix(self, prefix: str) -> dict[str, str]:
        self._check_reachable()
        return {key: value for key, value in self.values.items() if key.startswith(prefix)}

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def delete_prefix(self, prefix: str) -> None:
        for key in self.get_prefix(prefix):
            self.delete(key)

    def _check_reachable(self) -> None:
        if self.is_unreachable:
            raise RaySystemError("no answer")
