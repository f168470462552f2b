"""Stop tokens: which token ids end an answer, and where they come from.

Every request carries its stop tokens in GenerationRequest.stop_token_ids. For chats and completions through the API
these are HarmonyCodec.stop_token_ids, <|return|> and <|call|>. Without a codec, they are the checkpoint's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from serve_apps.engines.engine import GenerationRequest
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.core.errors import CheckpointError


def ends_with_stop_token(request: GenerationRequest, token_ids: Sequence[int]) -> bool:
    """True if the last of the generated `token_ids` ends the answer."""
    return bool(token_ids) and token_ids[-1] in request.stop_token_ids


def read_stop_token_ids(checkpoint: Path) -> tuple[int, ...]:
    """The `eos_token_id`s of a checkpoint folder, from generation_config.json or else config.json.

    Raises CheckpointError if neither file has the field.
    """
    for name in ("generation_config.json", "config.json"):
        if (checkpoint / name).is_file() and (ids := read_json(checkpoint / name).get("eos_token_id")) is not None:
            return tuple(ids) if isinstance(ids, list) else (ids,)
    raise CheckpointError(f"{checkpoint}: neither generation_config.json nor config.json has the field eos_token_id.")
