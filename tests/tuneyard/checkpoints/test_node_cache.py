"""Each node downloads a checkpoint once, and evicts only copies that no process uses."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from tests.object_store import store_folder
from tuneyard.checkpoints import node_cache
from tuneyard.checkpoints.folder_index import FolderIndex
from tuneyard.checkpoints.node_cache import local_folder, release
from tuneyard.checkpoints.transfer import upload
from tuneyard.core.errors import StorageFullError

pytestmark = pytest.mark.usefixtures("store", "cache")


def download_in_process(location: str, ready: object, counted: object) -> None:
    """Runs in a process of its own, in step with the others; counts the downloads that this process makes."""
    real = node_cache.download

    def counting(*arguments: object) -> None:
        with counted.get_lock():  # type: ignore[attr-defined]
            counted.value += 1  # type: ignore[attr-defined]
        real(*arguments)  # type: ignore[arg-type]

    node_cache.download = counting  # type: ignore[assignment]
    ready.wait()  # type: ignore[attr-defined]
    local_folder(location)
    ready.wait()  # type: ignore[attr-defined]


def test_several_processes_of_a_node_download_a_checkpoint_once(tiny_oss: Path) -> None:
    target = store_folder("models/once/1")
    upload(tiny_oss, target, FolderIndex.of_checkpoint(tiny_oss))
    context = multiprocessing.get_context("spawn")
    ready, counted = context.Barrier(3), context.Value("i", 0)
    processes = [context.Process(target=download_in_process, args=(target.location, ready, counted)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counted.value == 1


def test_the_least_recently_used_copy_is_evicted_and_none_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {}
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(os.urandom(600_000))
        upload(tmp_path / name, store_folder(f"evict/{name}"), FolderIndex.of_files(tmp_path / name))
    monkeypatch.setenv("TUNEYARD_CACHE_GIB", str(1_300_000 / 2**30))
    for name in "ab":
        folders[name] = local_folder(store_folder(f"evict/{name}").location)
        time.sleep(0.02)
    with pytest.raises(StorageFullError, match="every remaining copy is in use"):
        local_folder(store_folder("evict/c").location)
    release(folders["a"])
    release(folders["b"])
    local_folder(store_folder("evict/a").location)  # used again, so b is the older one
    local_folder(store_folder("evict/c").location)
    assert folders["a"].is_dir()
    assert not folders["b"].is_dir()
