"""A header that the safetensors library, transformers or numpy would stumble over is refused in words, and quickly."""

from __future__ import annotations

import gc
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.runs.preflight import prepare_run
from tests.malicious_checkpoints import run_from
from tuneyard.checkpoints.adoption import adopt_checkpoint
from tuneyard.checkpoints.layout.safetensors_header import MAX_HEADER_BYTES, read_header
from tuneyard.checkpoints.validation import validate_hf_checkpoint
from tuneyard.core.errors import CheckpointError

NORM = "model.norm.weight"
Header = dict[str, Any]


def norm(**fields: Any) -> Callable[[Header], bytes]:
    return lambda header: json.dumps(header | {NORM: header[NORM] | fields}).encode()


def renamed(name: str) -> Callable[[Header], bytes]:
    return lambda header: json.dumps({name if key == NORM else key: value for key, value in header.items()}).encode()


def metadata(value: Any) -> Callable[[Header], bytes]:
    return lambda header: json.dumps(header | {"__metadata__": value}).encode()


ATTACKS: dict[str, tuple[Callable[[Header], bytes], str]] = {
    "nested without end": (lambda _: b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "header is broken (maximum recursion"),
    "array": (lambda _: b"[]", "header is broken (it is no object)"),
    "no UTF-8": (lambda _: b'{"\xff": 1}', "header is broken ('utf-8' codec"),
    "UTF-16": (lambda header: json.dumps(header).encode("utf-16"), "header is broken ('utf-8' codec"),
    "too long": (lambda _: b" " * (MAX_HEADER_BYTES + 1), "its header may have 16,777,216 bytes"),
    "negative sizes": (norm(shape=[-64, -1]), "model.norm.weight has the shape [-64, -1]"),
    "fractions": (norm(shape=[64.0]), "model.norm.weight has the shape [64.0]"),
    "true as a size": (norm(shape=[True, 64]), "model.norm.weight has the shape [True, 64]"),
    "size beyond 64 bits": (norm(shape=[10**4000]), "model.norm.weight has the shape [1000"),
    "outside of the file": (norm(data_offsets=[2**40, 2**40 + 128]), "does not match its shape or its neighbour"),
    "unknown dtype": (norm(dtype=["F32"]), "header is broken"),
    "name for the terminal": (renamed("x\x1b[2J"), r"'x\x1b[2J' is no name of a tensor"),
    "name without end": (renamed("x" * 10_000), "is no name of a tensor"),
    "metadata as an array": (metadata([1]), "__metadata__ is not an object of strings"),
    "metadata of objects": (metadata({"format": {"pt": 1}}), "__metadata__ is not an object of strings"),
    "tensors of TensorFlow": (metadata({"format": "tf"}), "its tensors are those of 'tf', not of PyTorch"),
}


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Where recursion ends, hypothesis' callback of the garbage collector fails too, in whatever test comes next."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("kind", list(ATTACKS))
def test_every_command_refuses_it(kind: str, tiny_oss_copy: Path) -> None:
    make, refusal = ATTACKS[kind]
    path = tiny_oss_copy / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = make(json.loads(content[8 : 8 + length]))
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])
    for command in (validate_hf_checkpoint, lambda folder: prepare_run(run_from(folder))):
        with pytest.raises(CheckpointError) as caught:
            command(tiny_oss_copy)
        assert refusal in str(caught.value)
    (tiny_oss_copy / "manifest.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        adopt_checkpoint(tiny_oss_copy, "m")
    assert refusal in str(caught.value)


def test_a_good_header_is_read(tiny_oss: Path) -> None:
    path = tiny_oss / "model.safetensors"
    with path.open("rb") as file:
        header, raw = read_header(path, file)
        assert file.tell() == len(raw)
    assert header[NORM]["shape"] == [64]
