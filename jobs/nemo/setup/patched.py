"""Applies the fixes of NeMo and Megatron-Core when it is imported.

Every module that imports nemo or megatron imports this one. A process may reach NeMo through any of them: the children
that NeMo-Run starts with torchrun import only the modules that a recipe names.
"""

from __future__ import annotations

from jobs.nemo.fixes import apply_fixes

apply_fixes()
