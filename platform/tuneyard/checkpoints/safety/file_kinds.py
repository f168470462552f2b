"""Files that run code when they are loaded, and links out of the folder."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from tuneyard.checkpoints.layout.json_files import MAX_BYTES
from tuneyard.core.wording import printable

PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".dill", ".joblib", ".distcp", ".nemo", ".npy", ".npz", ".h5"}
)
"""Files of PyTorch, NeMo, joblib, NumPy and Keras. All of these formats can hold code that runs when they are read."""

CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyd", ".pyx", ".ipynb", ".so", ".dll", ".dylib", ".cu", ".ptx", ".cubin"})
"""Python modules and compiled code. transformers imports such files when a config names them."""

NAMED_FILES = {
    "adapter_config.json": (
        "transformers would load the model that its base_model_name_or_path names, here or on the Hub, in place of "
        "these weights. Merge the adapter into the weights, or remove the file."
    ),
    "pytorch_model.bin.index.json": (
        "a loader would read the weights from the pickles that it lists. Remove it; the weights belong into "
        ".safetensors files."
    ),
}
"""JSON files that redirect a loader -> what they would do, and the fix."""

_READ_WHOLE = frozenset({".json", ".jinja", ".model", ".txt"})
"""Files that loaders read into memory."""

MAX_DEPTH = 50
"""Folders in folders. What download tools keep beside a model is 4 deep."""

_PICKLE_PROTOCOL = 0x80
"""First byte of a pickle of protocol 2 or newer. No UTF-8 text begins with it."""

_ZIP = b"PK\x03\x04"
"""First bytes of a zip archive, by which torch.load knows it."""

_SKIPPED_CONTENT = frozenset({".safetensors", ".json"})
"""Files whose readers accept no pickle: their content is checked elsewhere."""


def file_problems(folder: Path, expected: Callable[[str], bool] = lambda _: False) -> Iterator[str]:
    """Yields one message for each file or link in the folder that must not be loaded. Follows no link.

    Files whose path in the folder is `expected` may be of any kind: the caller's loader does not read them, or the
    caller checks what they hold.
    """
    root = folder.resolve()
    inner = [root] if root.is_dir() else []
    while inner:
        try:
            paths = sorted(inner.pop().iterdir())
        except OSError as e:
            yield f"{printable(str(e.filename))} cannot be listed ({e.strerror}). Allow reading, or remove it."
            continue
        for path in paths:
            name = path.relative_to(root).as_posix()
            shown = printable(name)
            if shown != name:
                yield f"{shown} has characters in its name that control a terminal or are no text. Remove or rename it."
            if path.is_symlink():
                yield from _link_problems(path, root, shown)
                # A loader goes by the name of the link. The content is checked where the link points.
                yield from _name_problems(path, shown)
            elif path.is_dir() and path.suffix.lower() in _SKIPPED_CONTENT:
                yield f"{shown} is a folder with the name of a file, where a loader would fail. Remove it."
            elif path.is_dir():
                # Python's own walks, also those of loaders, fail at some 1,000.
                if name.count("/") >= MAX_DEPTH:
                    yield f"{shown[:80]}… is a folder {MAX_DEPTH} folders deep. Remove it: no loader reads it."
                else:
                    inner.append(path)
            elif not (path.is_file() and expected(name)):
                yield from _one_file_problems(path, shown)


def _link_problems(path: Path, root: Path, shown: str) -> Iterator[str]:
    try:
        target = path.resolve()
        is_inside = target.is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        target, is_inside = path.readlink(), False
    if not is_inside:
        yield (
            f"{shown} is a symbolic link out of the folder, to {printable(str(target))}. A loader would read that file "
            "as part of the model, and other programs could change it. Replace the link by a copy of the file. To "
            "download a model without links: hf download MODEL --local-dir FOLDER"
        )


def _one_file_problems(path: Path, shown: str) -> Iterator[str]:
    if not stat.S_ISREG(path.lstat().st_mode):
        yield f"{shown} is a device, pipe or socket. Reading it could wait forever. Remove it."
    elif problems := list(_name_problems(path, shown)):
        yield from problems
    elif path.suffix.lower() in _READ_WHOLE and path.stat().st_size > MAX_BYTES:
        yield (
            f"{shown} has {path.stat().st_size:,} bytes, of at most {MAX_BYTES:,}. A loader would read all of them "
            "into memory. Copy the file again from the model's source, or remove it."
        )
    elif path.suffix.lower() not in _SKIPPED_CONTENT and _holds_pickle(path):
        yield (
            f"{shown} is a pickle under another name, or an archive that can hold one, which runs code when it is "
            "read. Remove it."
        )


def _name_problems(path: Path, shown: str) -> Iterator[str]:
    suffix = path.suffix.lower()
    if path.name in NAMED_FILES:
        yield f"{shown}: {NAMED_FILES[path.name]}"
    elif suffix in PICKLE_SUFFIXES:
        yield (
            f"{shown} is in a format ({suffix}) that can hold a pickle, which runs code when it is read. Remove it: "
            "the weights are read from .safetensors files only."
        )
    elif suffix in CODE_SUFFIXES:
        yield (
            f"{shown} is code ({suffix}), which transformers imports and runs if a config names it. Remove it: GPT-OSS "
            "needs no code of its own."
        )


def _holds_pickle(path: Path) -> bool:
    """Whether the content is a pickle, or a zip archive: torch.save writes pickles into one.

    An archive's list of files is not read: it can be as large as the file.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False  # unreadable: no loader can read it either
    return start == _ZIP or (len(start) > 1 and start[0] == _PICKLE_PROTOCOL and 2 <= start[1] <= 5)
