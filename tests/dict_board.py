"""A board without a cluster."""

from __future__ import annotations

from ray.exceptions import RaySystemError


class DictBoard:
    """A board in this process; `is_away`: as when the cluster's store does not answer."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.is_away = False

    def put(self, key: str, text: str) -> None:
        self._answer()
        self.texts[key] = text

    def found(self, prefix: str) -> dict[str, str]:
        self._answer()
        return {key: text for key, text in self.texts.items() if key.startswith(prefix)}

    def remove(self, key: str) -> None:
        self.texts.pop(key, None)

    def remove_all(self, prefix: str) -> None:
        for key in self.found(prefix):
            self.remove(key)

    def _answer(self) -> None:
        if self.is_away:
            raise RaySystemError("no answer")
