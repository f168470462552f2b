"""Reading and writing the JSON files of a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuneyard.core.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file. Raises CheckpointError if the file is missing or holds no JSON object."""
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as e:
        raise CheckpointError(f"{path.name} is missing in {path.parent}. Copy or export the checkpoint again.") from e
    except (OSError, ValueError, RecursionError) as e:
        raise CheckpointError(f"{path} cannot be read as JSON: {e}. Copy or export the checkpoint again.") from e
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} holds a JSON {type(data).__name__}, but an object is expected.")
    return data


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Writes a JSON object with sorted keys, so that equal content gives equal bytes."""
    path.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
