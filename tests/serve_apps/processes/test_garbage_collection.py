"""What is loaded once is taken out of later collections; garbage that was there before is not kept."""

from __future__ import annotations

import gc
import weakref

from serve_apps.processes.garbage_collection import freeze_loaded_objects


class Node:
    """An object that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


def test_loaded_objects_are_no_longer_visited() -> None:
    kept, garbage = Node(), Node()
    has_garbage = weakref.ref(garbage)
    del garbage
    try:
        freeze_loaded_objects()
        assert has_garbage() is None
        assert all(visited is not kept for visited in gc.get_objects())
    finally:
        gc.unfreeze()
