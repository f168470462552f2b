"""Main memory that NeMo's export of a published model takes (docs/nemo.md, "Export")."""

from __future__ import annotations

import re

from tuneyard.planning.disk_space import count_parameters
from tuneyard.planning.published_models import PUBLISHED

BYTES_PER_PARAMETER = 8
"""The export runs in one process and holds the model twice in fp32."""


def published_export_bytes(base: str) -> int:
    """Bytes for the base that a path or URI names; 0 if it names none of the published sizes."""
    match = re.search(r"gpt-oss-(20b|120b)", base)
    return BYTES_PER_PARAMETER * count_parameters(PUBLISHED[match[1]]) if match else 0
