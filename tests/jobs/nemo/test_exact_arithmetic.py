"""TF32 is off in the process that compares logits, and in its children."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import os, sys
from jobs.nemo.setup.exact_arithmetic import TF32_OFF, disable_tf32
assert "torch" not in sys.modules
import torch
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
disable_tf32()
assert not torch.backends.cuda.matmul.allow_tf32
assert not torch.backends.cudnn.allow_tf32
assert {name: os.environ[name] for name in TF32_OFF} == TF32_OFF == {"NVIDIA_TF32_OVERRIDE": "0"}
"""


def test_tf32_is_off() -> None:
    """In a process of its own, because the setting stays."""
    ended = subprocess.run([sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
