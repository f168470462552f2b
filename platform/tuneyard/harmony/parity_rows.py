"""Parity rows: prompts and their token ids, stored in the manifest of a trained checkpoint for the parity check."""

from __future__ import annotations

import datetime
import random
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, request_fields
from tuneyard.core.errors import CheckpointError
from tuneyard.core.strict_model import FrozenModel
from tuneyard.harmony.codec import HarmonyCodec

PARITY_ROWS = 16


class ParityRow(FrozenModel):
    """A prompt and the `token_ids` as which training rendered it on the day `today` (ISO 8601)."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ChatTool, ...] = ()
    today: str
    token_ids: tuple[int, ...]

    def request_body(self, model_id: str) -> dict[str, Any]:
        """The prompt as the body of a render request to a server."""
        return {"model": model_id, **request_fields(self.messages, self.tools), "today": self.today}


class ParitySample:
    """Chooses up to `count` examples from a stream, the same ones for the same stream.

    Half of them are those with the most tools and turns, which exercise most of the codec; the other half is a random
    sample of the rest.
    """

    def __init__(self, count: int = PARITY_ROWS) -> None:
        self._richest: list[ChatExample] = []
        self._random_rest: list[ChatExample] = []
        self._half = count // 2
        self._rest_seen = 0
        self._random = random.Random(0)  # fixed, so that the same data gives the same rows

    def add(self, example: ChatExample) -> None:
        """Considers the next example of the stream."""
        self._richest = sorted([*self._richest, example], key=lambda e: (-len(e.tools), -len(e.messages)))
        if len(self._richest) <= self._half:
            return
        rest = self._richest.pop()
        # Reservoir sampling (Vitter 1985, algorithm R): every example of the rest is kept with the same probability.
        self._rest_seen += 1
        if len(self._random_rest) < self._half:
            self._random_rest.append(rest)
        elif (index := self._random.randrange(self._rest_seen)) < self._half:
            self._random_rest[index] = rest

    def freeze(self, codec: HarmonyCodec) -> tuple[ParityRow, ...]:
        """The prompts of the last assistant messages of the chosen examples, rendered with today's date."""
        today = datetime.date.today()
        rows = []
        for example in [*self._richest, *self._random_rest]:
            prompt = example.last_prompt
            ids = codec.render(prompt, example.tools, today=today)
            rows.append(ParityRow(messages=prompt, tools=example.tools, today=today.isoformat(), token_ids=tuple(ids)))
        return tuple(rows)


def parse_parity_rows(rows: Sequence[dict[str, Any]]) -> tuple[ParityRow, ...]:
    """The rows of a manifest. Raises CheckpointError for a row that does not have the form of ParityRow."""
    try:
        return tuple(ParityRow.model_validate(row) for row in rows)
    except ValidationError as e:
        raise CheckpointError(f"manifest.json: `parity` has an invalid row: {e}") from e
