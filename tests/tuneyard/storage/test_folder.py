"""Checkpoints on a real object store: whole or not there, proved byte by byte, fetched once per node."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as pafs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.object_store import ObjectStore
from tuneyard.checkpoints import node_cache, transfer
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.node_cache import local_folder, release
from tuneyard.checkpoints.publishing import next_version, publish
from tuneyard.checkpoints.transfer import Index, download, upload
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.cli.main import main
from tuneyard.configs.finetune import FinetuneConfig
from tuneyard.core.errors import CheckpointError, ConfigError, StorageError, StorageFullError
from tuneyard.storage import folder as storage
from tuneyard.storage.folder import StorageFolder, child_location
from tuneyard.storage.retrying_filesystem import patient_filesystem

pytestmark = pytest.mark.usefixtures("store", "cache")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with ObjectStore(tmp_path_factory.mktemp("store")) as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield store


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TUNEYARD_CACHE", str(tmp_path / "cache"))
    yield
    for folder in list(node_cache._in_use):
        release(folder)


def place(name: str) -> StorageFolder:
    return StorageFolder.open(f"s3://bucket/{name}")


def test_a_checkpoint_comes_back_the_same_and_every_node_has_one_copy(
    tiny_oss: Path,
) -> None:
    models = "s3://bucket/models/tiny"
    location = next_version(models, "run-one-of-two")
    assert location == f"{models}/1-run-one-"
    assert next_version(models, "another") == f"{models}/1-another", "two runs at once must not share a folder"
    publish(tiny_oss, location)
    assert next_version(models, "run-one-of-two") == f"{models}/2-run-one-"
    small = local_folder(location, weights=False)
    assert read_manifest(small) == read_manifest(tiny_oss)
    assert not list(small.glob("*.safetensors"))
    copy = local_folder(location)
    assert validate_hf_checkpoint(copy) == read_manifest(tiny_oss)
    assert local_folder(location) == copy
    assert local_folder(str(tiny_oss)) == tiny_oss
    publish(tiny_oss, location)  # the same again is no harm
    with pytest.raises(CheckpointError, match="never overwritten"):
        upload(tiny_oss, StorageFolder.open(location), Index("manifest.json", b"other", {}))


def test_a_cut_off_upload_is_no_checkpoint_and_goes_on_with_what_is_missing(
    tiny_oss: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, index = place("models/cut/1-abc"), Index.of_checkpoint(tiny_oss)
    written: list[str] = []
    real = transfer._write_object

    def cut(path: Path, target: StorageFolder, name: str, *more: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(name)
        real(path, target, name, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "THREADS", 1)
    monkeypatch.setattr(transfer, "_write_object", cut)
    with pytest.raises(KeyboardInterrupt):
        upload(tiny_oss, target, index)
    with pytest.raises(CheckpointError, match="no finished checkpoint there"):
        local_folder(target.location)
    assert next_version("s3://bucket/models/cut", "abc") == target.location
    first, written[:] = list(written), ["", "", ""]
    upload(tiny_oss, target, index)
    assert not set(first) & set(written)
    validate_hf_checkpoint(local_folder(target.location))


def test_what_was_damaged_on_the_store_is_never_used(tiny_oss: Path) -> None:
    target = place("models/damaged/1")
    upload(tiny_oss, target, Index.of_checkpoint(tiny_oss))
    whole = target.read("model.safetensors")
    assert whole is not None
    target.write("model.safetensors", whole[:-1] + bytes([whole[-1] ^ 1]))
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"model.safetensors: what was read is not what the index says"):
            local_folder(target.location)
    target.write("model.safetensors", whole)
    validate_hf_checkpoint(local_folder(target.location))


@settings(max_examples=8)
@given(
    st.dictionaries(st.sampled_from(["a", "b c.txt", "x/y/z", "ü.json"]), st.binary(max_size=3000), min_size=1),
    st.data(),
)
def test_any_folder_comes_back_from_wherever_it_stopped(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
) -> None:
    folder, there = tmp_path_factory.mktemp("from"), tmp_path_factory.mktemp("to")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        have = data.draw(st.integers(0, len(content)))
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content[:have])
    target = place(f"any/{time.time_ns()}")
    index = Index.of_files(folder)
    upload(folder, target, index)
    assert Index.read(target) == index
    download(target, index, there)
    assert {name: (there / name).read_bytes() for name in files} == files


def test_a_store_that_is_away_for_some_seconds_costs_only_those(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(random.Random(1).randbytes(48 * 2**20))
    target, index = place("hiccup"), Index.of_files(tmp_path)
    started = threading.Event()

    def interrupt() -> None:
        started.wait(30)
        store.kill()
        time.sleep(2)
        store.start()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        real = transfer._write_object

        def first_then_down(*arguments: object) -> None:
            started.set()
            real(*arguments)  # type: ignore[arg-type]

        patch.setattr(transfer, "_write_object", first_then_down)
        upload(tmp_path, target, index)
    thread.join()
    back = tmp_path / "back"
    back.mkdir()
    download(target, index, back)


def test_other_code_is_given_a_store_that_waits(store: ObjectStore) -> None:
    """As Ray Train is, also after a journey to another process."""
    folder = place("patient")
    filesystem = pickle.loads(pickle.dumps(patient_filesystem(folder)))
    store.kill()
    thread = threading.Timer(1.5, store.start)
    thread.start()
    with filesystem.open_output_stream(f"{folder.path}/state.json") as file:
        file.write(b"{}")
    thread.join()
    assert folder.read("state.json") == b"{}"
    with filesystem.open_input_stream(f"{folder.path}/state.json") as file:
        assert file.read() == b"{}"
    selected = filesystem.get_file_info(pafs.FileSelector(folder.path))
    assert [info.base_name for info in selected] == ["state.json"]
    filesystem.delete_dir(folder.path)
    assert folder.names() == []
    assert filesystem == patient_filesystem(folder)


def test_refusals_are_said_at_once_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"NO_SUCH_BUCKET|Bucket"):
        StorageFolder.open("s3://no-such-bucket/x").write("f", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="Credentials come from AWS_ACCESS_KEY_ID"):
        place("x").read("f")
    monkeypatch.setattr(storage, "RETRY_DELAYS_S", (0.01,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"Is the store up, and its address right"):
        place("x").read("f")
    with pytest.raises(StorageError, match=r"not a location that pyarrow.fs knows"):
        StorageFolder.open("s4://bucket/x")


@pytest.mark.parametrize("name", ["../out", "/etc/out", "", "a/../../out"])
def test_an_index_cannot_write_outside_of_the_folder(name: str) -> None:
    place("evil").write("listing.json", json.dumps({name: {"sha256": "0", "size_bytes": 1}}).encode())
    with pytest.raises(CheckpointError, match=r"which lies outside of it"):
        local_folder(place("evil").location)
    place("evil").write("listing.json", b"[1]")
    with pytest.raises(CheckpointError, match=r"not an index of files"):
        local_folder(place("evil").location)


def test_what_an_earlier_download_left_is_not_blamed_on_the_store(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "file").write_bytes(b"0123456789")
    index = Index.of_files(tmp_path / "from")
    upload(tmp_path / "from", place("left"), index)
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "file").write_bytes(b"xxxx")
    download(place("left"), index, tmp_path / "to")
    assert (tmp_path / "to" / "file").read_bytes() == b"0123456789"


def fetch(location: str, ready: object, counted: object) -> None:
    """In a process of its own: begins and ends with the others, and counts the downloads that it does itself."""
    real = node_cache.download

    def counting(*arguments: object) -> None:
        with counted.get_lock():  # type: ignore[attr-defined]
            counted.value += 1  # type: ignore[attr-defined]
        real(*arguments)  # type: ignore[arg-type]

    node_cache.download = counting  # type: ignore[assignment]
    ready.wait()  # type: ignore[attr-defined]
    local_folder(location)
    ready.wait()  # type: ignore[attr-defined]


def test_processes_of_a_node_fetch_it_once(tiny_oss: Path) -> None:
    target = place("models/once/1")
    upload(tiny_oss, target, Index.of_checkpoint(tiny_oss))
    context = multiprocessing.get_context("spawn")
    ready, counted = context.Barrier(3), context.Value("i", 0)
    processes = [context.Process(target=fetch, args=(target.location, ready, counted)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert counted.value == 1


def test_what_was_not_used_for_longest_goes_first_and_nothing_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {}
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(os.urandom(600_000))
        upload(tmp_path / name, place(f"evict/{name}"), Index.of_files(tmp_path / name))
    monkeypatch.setenv("TUNEYARD_CACHE_GIB", str(1_300_000 / 2**30))
    for name in "ab":
        folders[name] = local_folder(place(f"evict/{name}").location)
        time.sleep(0.02)
    with pytest.raises(StorageFullError, match="nothing left there that no process uses"):
        local_folder(place("evict/c").location)
    release(folders["a"])
    release(folders["b"])
    local_folder(place("evict/a").location)  # used again, so b is the older one
    local_folder(place("evict/c").location)
    assert folders["a"].is_dir()
    assert not folders["b"].is_dir()


def test_models_copy_there_and_back(tiny_oss: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "copy", str(tiny_oss), "s3://bucket/copied/1"]) == 0
    assert main(["models", "copy", "s3://bucket/copied/1", str(tmp_path / "back")]) == 0
    assert read_manifest(tmp_path / "back") == read_manifest(tiny_oss)
    assert main(["models", "check", "s3://bucket/copied/1"]) == 0
    assert main(["models", "copy", str(tiny_oss), str(tmp_path / "back")]) == 1
    assert "never overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("location", "names", "expected"),
    [
        ("/data/x", ("a", "b"), "/data/x/a/b"),
        ("s3://bucket/p/", ("a",), "s3://bucket/p/a"),
        (
            "s3://bucket?scheme=http&endpoint_override=h:1",
            ("a", "b"),
            "s3://bucket/a/b?scheme=http&endpoint_override=h:1",
        ),
    ],
)
def test_below_a_location(location: str, names: tuple[str, ...], expected: str) -> None:
    assert child_location(location, *names) == expected


def test_a_password_in_a_uri_is_refused_and_nemo_wants_a_folder(tmp_path: Path) -> None:
    parts = {"model": {"base": "b"}, "data": {"train": "t"}}

    def config(storage: str, **more: object) -> FinetuneConfig:
        run = {"name": "r", "model_name": "m", "storage": storage}
        return FinetuneConfig.model_validate({"run": run, **parts, **more})

    with pytest.raises(ValueError, match="holds a password"):
        config("s3://key:secret@bucket/x")
    with pytest.raises(ValueError, match="give a mounted one that all nodes see"):
        config("s3://bucket/x", training={"backend": "nemo"})
    assert config(f"file://{tmp_path}").run.folder == tmp_path
    with pytest.raises(ConfigError, match="is on an object store"):
        _ = config("s3://bucket/x").run.folder
