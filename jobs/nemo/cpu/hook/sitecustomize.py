"""With this folder on PYTHONPATH, every Python process installs the CPU shim just before it imports Megatron or NeMo.

It reaches Ray workers and their child processes. Where PyTorch sees a GPU this does nothing.
"""

from __future__ import annotations

import importlib.abc
import sys
from pathlib import Path
from typing import Any


class _ShimBeforeNemo(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> None:
        if fullname.partition(".")[0] not in ("megatron", "nemo"):
            return
        sys.meta_path.remove(self)
        import torch

        if not torch.cuda.is_available():
            sys.path.append(str(Path(__file__).resolve().parents[4]))
            from jobs.nemo.cpu import cpu_shim

            cpu_shim.install()


sys.meta_path.insert(0, _ShimBeforeNemo())
