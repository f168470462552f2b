"""The scratch folder of a rehearsal, and an environment in which nothing reaches a person's own registry or GPUs."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tuneyard.cluster.connection import CHECKOUT

CPU_SHIM = CHECKOUT / "jobs" / "nemo" / "cpu" / "hook"
PREFIX, RAY_LOG = "tuneyard-rehearsal-", "ray.log"
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
REMOVED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "RAY_ADDRESS", "TUNEYARD_STORAGE")


@contextlib.contextmanager
def scratch_folder(*, keep: bool) -> Iterator[Path]:
    """A new folder that is deleted at the end, unless `keep`."""
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def rehearsal_environment(scratch: Path, *, uses_nemo: bool) -> Iterator[None]:
    """The environment variables of the rehearsed run, for this process and all that it starts.

    Home, registry, caches and the started processes' temporary files lie in `scratch`. No process sees a GPU; with
    `uses_nemo` each installs the CPU shim. What Ray prints to standard output, such as a notice of the worker that is
    killed, goes to RAY_LOG in `scratch`.
    """
    variables = {
        "TUNEYARD_HOME": str(scratch / "home"),
        "TUNEYARD_CACHE": str(scratch / "cache"),
        # Workers that are killed delete nothing. Ray's own files stay where they would be: the path of a Unix socket
        # has 107 bytes at most, and those of Ray's sockets leave 39 for the folder.
        "TMPDIR": str(scratch / "tmp"),
        "RAY_TMPDIR": os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(),
        "NEMO_HOME": str(scratch / "nemo_home"),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # Each worker would run a C++ compiler for half a minute, for kernels that no GPU uses.
        "TORCH_COMPILE_DISABLE": "1",
    }
    if not _has_bytecode():
        variables["PYTHONPYCACHEPREFIX"] = str(scratch / "pycache")
    if uses_nemo:
        present = [path for path in [os.environ.get("PYTHONPATH")] if path]
        variables["PYTHONPATH"] = os.pathsep.join([str(CPU_SHIM), *present])
    (scratch / "tmp").mkdir(exist_ok=True)
    before = dict(os.environ)
    os.environ.update(variables)
    for name in (*REMOVED, NO_BYTECODE):
        os.environ.pop(name, None)
    try:
        with (scratch / RAY_LOG).open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _has_bytecode() -> bool:
    """Whether processes find compiled packages, or will write them.

    Many images have neither, and each of a rehearsal's many processes would compile torch and NeMo again.
    """
    spec = importlib.util.find_spec("torch")
    compiled = spec is not None and spec.cached is not None and Path(spec.cached).exists()
    return compiled or not sys.dont_write_bytecode
