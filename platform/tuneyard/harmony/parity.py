"""The parity check: prompts stored in training must be rendered to the same token ids where the model is served.

A model that gets other prompts than in training answers worse, and no error shows it. So a model whose prompts differ
is not served.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from tuneyard.core.errors import CheckpointError, ParityError
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.parity_rows import ParityRow

RENDER_PATH = "/chat/completions/render"
RENDER_TIMEOUT_S = 60.0
CONTEXT_TOKENS = 24
"""Tokens before and after the first difference that an error message shows."""


RenderRow = Callable[[ParityRow], Sequence[int]]
"""Renders the prompt of a row to token ids."""


@dataclass(frozen=True, slots=True)
class TokenDifference:
    """The first different position of a row's token ids; an id is None behind the end of its sequence."""

    row: int
    position: int
    trained: int | None
    served: int | None


def check_parity(rows: Sequence[ParityRow], render: RenderRow, codec: HarmonyCodec, where: str) -> int:
    """Renders all rows and returns the number of tokens compared.

    Raises ParityError with `where` and the first different token in its context. `codec` turns ids into text for the
    message.
    """
    for number, row in enumerate(rows, start=1):
        served = list(render(row))
        difference = first_difference(number, row.token_ids, served)
        if difference is not None:
            raise ParityError(_explain(difference, row, served, codec, where))
    return sum(len(row.token_ids) for row in rows)


def first_difference(row: int, trained: Sequence[int], served: Sequence[int]) -> TokenDifference | None:
    """The first position at which two sequences of ids differ; None if they are equal. `row` is the row's number."""
    for position in range(max(len(trained), len(served))):
        trained_id = trained[position] if position < len(trained) else None
        served_id = served[position] if position < len(served) else None
        if trained_id != served_id:
            return TokenDifference(row, position, trained_id, served_id)
    return None


def render_with(codec: HarmonyCodec) -> RenderRow:
    """Renders with a codec in this process."""
    return lambda row: codec.render(row.messages, row.tools, today=datetime.date.fromisoformat(row.today))


def render_over_http(base_url: str, model_id: str, admin_key: str) -> RenderRow:
    """Renders with a running server, through the same route, checks and codec as its completions.

    `base_url` ends with /v1. The returned function raises CheckpointError if the server does not answer with ids.
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
            raise CheckpointError(f"{url}: HTTP {e.response.status_code}: {e.response.text[:300]}") from e
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as e:
            raise CheckpointError(f"{url}: does not answer as a Tuneyard server does: {e!r}") from e

    return render


def _explain(
    difference: TokenDifference, row: ParityRow, served: Sequence[int], codec: HarmonyCodec, where: str
) -> str:
    position = difference.position
    before = codec.render_text(row.token_ids[max(0, position - CONTEXT_TOKENS) : position])

    def describe(token: int | None, ids: Sequence[int]) -> str:
        if token is None:
            return "(ends here)"
        after = codec.render_text(ids[position + 1 : position + 1 + CONTEXT_TOKENS])
        return f"{token} {codec.render_text([token])!r}, then {after!r}"

    return (
        f"{where}: a prompt is rendered differently than in training. Row {difference.row}, token {position}, "
        f"after {before!r}:\n"
        f"  trained: {describe(difference.trained, row.token_ids)}\n"
        f"  served:  {describe(difference.served, served)}\n"
        "Serve the model with the codec settings, tokenizer and versions of its manifest, or train it again."
    )
