"""Each node makes the GGUF file of a proved checkpoint once, and keeps it in its cache under the manifest's digest."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from tuneyard.checkpoints.gguf import node_gguf
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.node_gguf import local_gguf
from tuneyard.checkpoints.manifest_writer import write_manifest
from tuneyard.checkpoints.node_cache import release
from tuneyard.core.errors import CheckpointError, StorageFullError

pytestmark = pytest.mark.usefixtures("cache")


def make_in_process(checkpoint: Path, ready: Any, counted: Any) -> None:
    """Runs in a process of its own, in step with the others; counts the files that this process writes."""
    real = node_gguf.write_gguf

    def counting(*arguments: Any, **options: Any) -> Any:
        with counted.get_lock():
            counted.value += 1
        return real(*arguments, **options)

    node_gguf.write_gguf = counting
    ready.wait()
    local_gguf(checkpoint, GgufType.F32)
    ready.wait()


def test_several_processes_of_a_node_make_a_file_once(tiny_oss: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, counted = context.Barrier(3), context.Value("i", 0)
    processes = [context.Process(target=make_in_process, args=(tiny_oss, ready, counted)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counted.value == 1


def test_the_file_is_named_after_the_checkpoint_and_its_type(tiny_oss_copy: Path) -> None:
    reported: list[tuple[int, int]] = []
    first = local_gguf(
        tiny_oss_copy, GgufType.F32, on_progress=lambda written, total: reported.append((written, total))
    )
    assert reported[-1][0] == reported[-1][1] > 0
    assert first.read_bytes()[:4] == b"GGUF"
    assert local_gguf(tiny_oss_copy, GgufType.F32) == first
    assert local_gguf(tiny_oss_copy, GgufType.Q8_0).parent != first.parent
    write_manifest(tiny_oss_copy, kind="base", name="another", version="2")
    assert local_gguf(tiny_oss_copy, GgufType.F32).parent != first.parent


def test_only_a_proved_checkpoint_becomes_a_file(tiny_oss_copy: Path) -> None:
    weights = tiny_oss_copy / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-100] ^= 1
    weights.write_bytes(damaged)
    with pytest.raises(CheckpointError, match="not a valid checkpoint"):
        local_gguf(tiny_oss_copy, GgufType.F32)
    damaged[-100] ^= 1
    weights.write_bytes(damaged)
    assert local_gguf(tiny_oss_copy, GgufType.F32).is_file()
    (tiny_oss_copy / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="manifest"):
        local_gguf(tiny_oss_copy, GgufType.F32)


def test_an_interrupted_file_is_made_anew(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = node_gguf.write_gguf

    def interrupt(_: Path, out: Path, *__: Any, **___: Any) -> None:
        out.write_bytes(b"half")
        (out.parent / ".staging").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(node_gguf, "write_gguf", interrupt)
    with pytest.raises(KeyboardInterrupt):
        local_gguf(tiny_oss, GgufType.F32)
    monkeypatch.setattr(node_gguf, "write_gguf", real)
    made = local_gguf(tiny_oss, GgufType.F32)
    assert made.stat().st_size > 10**6
    assert sorted(path.name for path in made.parent.iterdir()) == ["model.gguf", "model.gguf.json"]


@pytest.mark.parametrize("damage", ["cut", "longer", "gone", "one bit", "header", "no entry", "broken entry"])
def test_a_damaged_file_is_made_anew(tiny_oss: Path, damage: str) -> None:
    """llama.cpp answers from damaged weights without an error."""
    made = local_gguf(tiny_oss, GgufType.Q8_0)
    content = made.read_bytes()
    release(made.parent)
    match damage:
        case "cut":
            made.write_bytes(content[:-1])
        case "longer":
            made.write_bytes(content + b"x")
        case "gone":
            made.unlink()
        case "one bit":
            made.write_bytes(content[:-5000] + bytes([content[-5000] ^ 1]) + content[-4999:])
        case "header":
            made.write_bytes(bytes(64) + content[64:])
        case "no entry":
            (made.parent / "model.gguf.json").unlink()
        case "broken entry":
            (made.parent / "model.gguf.json").write_text('{"sha256"')
    assert local_gguf(tiny_oss, GgufType.Q8_0) == made
    assert made.read_bytes() == content
    release(made.parent)
    inode = made.stat().st_ino
    assert local_gguf(tiny_oss, GgufType.Q8_0).stat().st_ino == inode


def test_unused_files_are_evicted_for_new_ones(tiny_oss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEYARD_CACHE_GIB", str(2_400_000 / 2**30))
    first = local_gguf(tiny_oss, GgufType.F32)
    with pytest.raises(StorageFullError, match="every remaining copy is in use"):
        local_gguf(tiny_oss, GgufType.BF16)
    release(first.parent)
    local_gguf(tiny_oss, GgufType.BF16)
    assert not first.exists()
