"""Parity rows: prompts and their token ids, stored in the manifest of a trained checkpoint for the parity check.

The prompts are those of rows that were trained on, with every word replaced, so that no chat travels with a checkpoint.
"""

from __future__ import annotations

import datetime
import json
import random
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, request_fields
from tuneyard.chats.rules.example_problems import MAX_TOOLS
from tuneyard.core.errors import CheckpointError
from tuneyard.core.strict_model import FrozenModel
from tuneyard.harmony.anonymous_prompts import anonymise_prompt
from tuneyard.harmony.codec import HarmonyCodec

PARITY_ROWS = 16

MAX_MESSAGES = 512
MAX_CHARACTERS = 262_144
MAX_RUN_CHARACTERS = 4096
"""Largest prompt that becomes a parity row: well below what a server accepts by default (configs.http_limits)."""

_LONG_RUN = re.compile(
    "|".join(rf"{kind}{{{MAX_RUN_CHARACTERS}}}" for kind in (r"[^\s.,;:!?。、，！？]", r"[^\w\s]", r"\s"))
)
"""A run of letters, punctuation or spaces that a tokenizer does not split, or nearly such a run."""


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
    sample of the rest. Examples whose prompt no server would accept are not chosen.
    """

    def __init__(self, count: int = PARITY_ROWS) -> None:
        self._richest: list[ChatExample] = []
        self._random_rest: list[ChatExample] = []
        self._half = count // 2
        self._rest_seen = 0
        self._random = random.Random(0)  # fixed, so that the same data gives the same rows

    def add(self, example: ChatExample) -> None:
        """Considers the next example of the stream."""
        if len(self._richest) < self._half or _richness(example) > _richness(self._richest[-1]):
            if not _is_servable(example):
                return
            self._richest = sorted([*self._richest, example], key=_richness, reverse=True)
            if len(self._richest) <= self._half:
                return
            rest = self._richest.pop()
        else:
            rest = example
        # Reservoir sampling (Vitter 1985, algorithm R): every example of the rest is kept with the same probability.
        self._rest_seen += 1
        index = len(self._random_rest)
        if index == self._half:
            index = self._random.randrange(self._rest_seen)
        if index < self._half and _is_servable(rest):
            self._random_rest[index : index + 1] = [rest]

    def freeze(self, codec: HarmonyCodec, *, keeps_words: bool = False) -> tuple[ParityRow, ...]:
        """The prompts of the last assistant messages of the chosen examples, rendered with today's date.

        `keeps_words`: the prompts are those of the examples; otherwise every word in them is replaced.
        """
        today = datetime.date.today()
        rows = []
        for example in [*self._richest, *self._random_rest]:
            prompt, tools = example.last_prompt, example.tools
            if not keeps_words:
                prompt, tools = anonymise_prompt(prompt, tools)
            ids = codec.render(prompt, tools, today=today)
            rows.append(ParityRow(messages=prompt, tools=tools, today=today.isoformat(), token_ids=tuple(ids)))
        return tuple(rows)


def _richness(example: ChatExample) -> tuple[int, int]:
    return len(example.tools), len(example.messages)


def _is_servable(example: ChatExample) -> bool:
    """Whether a server with its default limits accepts the example's prompt."""
    names = [tool.function.name for tool in example.tools]
    if len(names) > MAX_TOOLS or len(set(names)) < len(names) or len(example.messages) > MAX_MESSAGES:
        return False
    # Texts alone first: most are short, and a long one need not be written as JSON.
    if sum(len(message.content) for message in example.messages) > MAX_CHARACTERS:
        return False
    text = json.dumps(request_fields(example.last_prompt, example.tools), ensure_ascii=False)
    return len(text) <= MAX_CHARACTERS and _LONG_RUN.search(text) is None


def parse_parity_rows(rows: Sequence[dict[str, Any]]) -> tuple[ParityRow, ...]:
    """The rows of a manifest. Raises CheckpointError for a row that does not have the form of ParityRow."""
    try:
        return tuple(ParityRow.model_validate(row) for row in rows)
    except ValidationError as e:
        raise CheckpointError(f"manifest.json: `parity` has an invalid row: {e}") from e
