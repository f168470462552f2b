"""Main memory that the export of a published model takes."""

from __future__ import annotations

import re
from typing import Literal

from tuneyard.planning.disk_space import count_parameters
from tuneyard.planning.published_models import PUBLISHED
from tuneyard.planning.training.host_memory import EXPORT_BYTES


def published_export_bytes(base: str, backend: Literal["transformers", "nemo"]) -> int:
    """Bytes for the base that a path or URI names; 0 if it names none of the published sizes."""
    match = re.search(r"gpt-oss-(20b|120b)", base)
    return EXPORT_BYTES[backend] * count_parameters(PUBLISHED[match[1]]) if match else 0
