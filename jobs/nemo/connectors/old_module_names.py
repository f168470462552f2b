"""Names of our modules in NeMo checkpoints that were written before 2026-11-27, when the modules moved.

A NeMo checkpoint's context stores the import path of each object, so these paths must import for as long as such
checkpoints exist.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

OLD_NAMES = {
    "jobs.nemo_connectors": "jobs.nemo.connectors.model_config",
    "jobs.nemo_data": "jobs.nemo.data_module",
    "jobs.nemo_schedule": "jobs.nemo.schedule",
}
"""Old module -> the module of today that has its stored names."""


class OldModuleFinder(MetaPathFinder, Loader):
    """Imports the module of today under its old name. Neither imports NeMo nor anything else before that."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in OLD_NAMES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        # A new module object: importlib writes the spec's name into the module that it is given.
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update(
            {
                name: value
                for name, value in vars(importlib.import_module(OLD_NAMES[module.__name__])).items()
                if not name.startswith("__")
            }
        )


def accept_old_names() -> None:
    """Makes the old names importable in this process. May be called again."""
    if not any(isinstance(finder, OldModuleFinder) for finder in sys.meta_path):
        sys.meta_path.append(OldModuleFinder())
