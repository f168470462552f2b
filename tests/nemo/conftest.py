"""Fixtures for NeMo: the CPU shim on machines without a GPU, the product's fixes, and small checkpoints."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

collect_ignore_glob = [] if importlib.util.find_spec("nemo") else ["test_*.py"]
"""Without NeMo these tests cannot be imported. `make test-nemo` runs them in NeMo's environment."""

CHECKOUT = Path(__file__).parents[2]
HOOK = CHECKOUT / "jobs/nemo/cpu/hook"


@pytest.fixture(scope="session", autouse=True)
def shim_in_other_processes() -> Iterator[None]:
    """Puts the shim's `hook/` on PYTHONPATH, so that Ray workers and spawned processes install the CPU shim too."""
    present = [path for path in [os.environ.get("PYTHONPATH")] if path]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HOOK), str(CHECKOUT), *present]))
        yield


@pytest.fixture(scope="session")
def nemo_fixes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names of the applied fixes. After this fixture, NeMo runs on this machine, with or without a GPU."""
    import torch

    from jobs.nemo.cpu import cpu_shim
    from jobs.nemo.fixes import apply_fixes

    os.environ["NEMO_HOME"] = str(tmp_path_factory.mktemp("nemo_home"))
    os.environ["HF_HUB_OFFLINE"] = "1"
    if not torch.cuda.is_available():
        cpu_shim.install()
    return apply_fixes()


@pytest.fixture(scope="session")
def tiny_fp32(tiny_oss: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny-oss-random in fp32, so that comparisons are not dominated by bf16 rounding."""
    import shutil

    import torch
    import transformers

    folder = tmp_path_factory.mktemp("models") / "tiny-fp32"
    transformers.GptOssForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32).save_pretrained(folder)
    for path in tiny_oss.glob("*token*.json"):
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def imported(nemo_fixes: list[str], tiny_fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny_fp32 in NeMo 2 format."""
    assert nemo_fixes
    from jobs.nemo.checkpoint_import import import_checkpoint

    target = tmp_path_factory.mktemp("nemo") / "tiny"
    import_checkpoint(f"hf://{tiny_fp32}", target)
    return target
