"""What all tests share: an own TUNEYARD_HOME, one torch thread, and one tiny model per session."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test fails for being slow: the machines are shared.
settings.register_profile("tuneyard", deadline=None)
settings.load_profile("tuneyard")

# Before torch is imported anywhere: the machines that run tests share few cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session", autouse=True)
def tuneyard_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """TUNEYARD_HOME in a temporary folder, so that no test touches or depends on a person's own."""
    home = tmp_path_factory.mktemp("tuneyard_home")
    with pytest.MonkeyPatch.context() as patch:
        # For the figures of a GPU, which are of a person's own models.
        patch.setenv("TUNEYARD_OUTER_HOME", os.environ.get("TUNEYARD_HOME", ""))
        patch.setenv("TUNEYARD_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def tiny_oss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint tiny-oss-random. Read only: copy it (`tiny_oss_copy`) to change it."""
    import torch

    from jobs.bases.tiny_oss import build_tiny_oss

    torch.set_num_threads(1)
    target = tmp_path_factory.mktemp("models") / "tiny-oss-random"
    build_tiny_oss(target)
    return target


@pytest.fixture
def tiny_oss_copy(tiny_oss: Path, tmp_path: Path) -> Path:
    """A copy of tiny-oss-random that the test may break."""
    return Path(shutil.copytree(tiny_oss, tmp_path / "tiny-oss-copy"))
