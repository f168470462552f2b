"""The parity gate: prompts frozen when a model was trained are rendered again where it is served.

Equal ids, token for token, or the model is not served: a model behind another prompt than it was
trained on answers worse, and nothing else ever says so.
"""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from pydantic import ValidationError

from tuneyard.chats.messages import ChatExample, ChatMessage, ChatTool, request_fields
from tuneyard.core.errors import CheckpointError, ParityError
from tuneyard.core.strict_model import FrozenModel
from tuneyard.harmony.codec import HarmonyCodec

PARITY_ROWS = 16
RENDER_PATH = "/chat/completions/render"
CONTEXT_TOKENS = 24
RENDER_TIMEOUT_S = 60.0


class ParityRow(FrozenModel):
    """A prompt as training rendered it: `token_ids` of `messages` with `tools`, on the day `today` (ISO)."""

    messages: tuple[ChatMessage, ...]
    tools: tuple[ChatTool, ...] = ()
    today: str
    token_ids: tuple[int, ...]

    def request_body(self, model_id: str) -> dict[str, Any]:
        """The row as a client would send it; the path of serving starts here."""
        return {"model": model_id, **request_fields(self.messages, self.tools), "today": self.today}


RenderRow = Callable[[ParityRow], Sequence[int]]
"""How somebody else renders a row."""


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """The first place where two renderings part; an id is None past the end."""

    row: int
    position: int
    trained: int | None
    served: int | None


class ParitySample:
    """Up to `count` examples out of a stream: half those with most tools and turns, half spread over all."""

    def __init__(self, count: int = PARITY_ROWS) -> None:
        self._telling: list[ChatExample] = []
        self._spread: list[ChatExample] = []
        self._half = count // 2
        self._seen = 0
        self._random = random.Random(0)  # the same rows for the same data

    def add(self, example: ChatExample) -> None:
        """The next one of the stream."""
        self._telling = sorted([*self._telling, example], key=lambda e: (-len(e.tools), -len(e.messages)))
        if len(self._telling) <= self._half:
            return
        rest = self._telling.pop()
        self._seen += 1
        if len(self._spread) < self._half:
            self._spread.append(rest)
        elif (place := self._random.randrange(self._seen)) < self._half:
            self._spread[place] = rest

    def freeze(self, codec: HarmonyCodec) -> tuple[ParityRow, ...]:
        """The prompts of the examples' last assistant turns, as rendered today."""
        today = datetime.date.today()
        rows = []
        for example in [*self._telling, *self._spread]:
            prompt = example.last_prompt
            ids = codec.render(prompt, example.tools, today=today)
            rows.append(ParityRow(messages=prompt, tools=example.tools, today=today.isoformat(), token_ids=tuple(ids)))
        return tuple(rows)


def check_parity(rows: Sequence[ParityRow], render: RenderRow, codec: HarmonyCodec, where: str) -> int:
    """The number of tokens compared. Raises ParityError that shows the first differing token in its context."""
    for number, row in enumerate(rows, start=1):
        served = list(render(row))
        difference = first_difference(number, row.token_ids, served)
        if difference is not None:
            raise ParityError(_explain(difference, row, served, codec, where))
    return sum(len(row.token_ids) for row in rows)


def first_difference(row: int, trained: Sequence[int], served: Sequence[int]) -> TokenDifference | None:
    """The first differing position of two id sequences, or None."""
    for position in range(max(len(trained), len(served))):
        left = trained[position] if position < len(trained) else None
        right = served[position] if position < len(served) else None
        if left != right:
            return TokenDifference(row, position, left, right)
    return None


def render_with(codec: HarmonyCodec) -> RenderRow:
    """Renders with a codec in this process."""
    return lambda row: codec.render(row.messages, row.tools, today=datetime.date.fromisoformat(row.today))


def render_over_http(base_url: str, model_id: str, admin_key: str) -> RenderRow:
    """Renders through a running replica: the same route, checks and codec as its completions.

    Raises CheckpointError when the endpoint does not answer with ids.
    """
    url = base_url.rstrip("/") + RENDER_PATH

    def render(row: ParityRow) -> Sequence[int]:
        try:
            response = httpx.post(
                url,
                json=row.request_body(model_id),
                headers={"Authorization": f"Bearer {admin_key}"},
                timeout=RENDER_TIMEOUT_S,
            )
            response.raise_for_status()
            return [int(token) for token in response.json()["prompt_token_ids"]]
        except httpx.HTTPStatusError as e:
            raise CheckpointError(f"{url}: {e.response.status_code} {e.response.text[:300]}") from e
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as e:
            raise CheckpointError(f"{url}: does not answer as a Tuneyard replica: {e!r}") from e

    return render


def parse_parity_rows(rows: Sequence[dict[str, Any]]) -> tuple[ParityRow, ...]:
    """The manifest's rows. Raises CheckpointError when they are not what training wrote."""
    try:
        return tuple(ParityRow.model_validate(row) for row in rows)
    except ValidationError as e:
        raise CheckpointError(f"manifest.json: `parity` holds a row that is none: {e}") from e


def _explain(
    difference: TokenDifference, row: ParityRow, served: Sequence[int], codec: HarmonyCodec, where: str
) -> str:
    at = difference.position
    before = codec.render_text(row.token_ids[max(0, at - CONTEXT_TOKENS) : at])

    def shown(token: int | None, ids: Sequence[int]) -> str:
        if token is None:
            return "(ends here)"
        return (
            f"{token} {codec.render_text([token])!r}, then {codec.render_text(ids[at + 1 : at + 1 + CONTEXT_TOKENS])!r}"
        )

    return (
        f"{where}: the prompt is not the one of its training. Row {difference.row}, token {at}, "
        f"after {before!r}:\n"
        f"  trained: {shown(difference.trained, row.token_ids)}\n"
        f"  served:  {shown(difference.served, served)}\n"
        "Serve it with the codec settings, tokenizer and versions of its manifest, or train it again."
    )
