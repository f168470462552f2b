"""Chooses the rows and the labelled places whose logits the export proof compares."""

from __future__ import annotations

from tuneyard.training_data.token_table import IGNORED_LABEL

PROBE_ROWS = 8
"""Rows of the token table, at most."""

PROBE_PLACES = 512
"""Labelled places of all probe rows together, at most. The logits of one model at them take 0.4 GB for GPT-OSS's
vocabulary; the proof holds those of up to three models."""


def limit_places(rows: list[dict[str, list[int]]], most: int = PROBE_PLACES) -> list[dict[str, list[int]]]:
    """The rows with labels at no more than `most` places, spread evenly over each row and equally over the rows.

    Tokens stay as they are, so the logits at the places that remain are the same.
    """
    places = [[i for i, label in enumerate(row["labels"]) if i and label != IGNORED_LABEL] for row in rows]
    result, left = [], most
    # Rows with few labels first: what they do not need is for the others.
    shares: dict[int, int] = {}
    for position, index in enumerate(sorted(range(len(rows)), key=lambda i: len(places[i]))):
        shares[index] = min(len(places[index]), left // (len(rows) - position))
        left -= shares[index]
    for index, row in enumerate(rows):
        count, share = len(places[index]), shares[index]
        kept = {places[index][i * count // share] for i in range(share)}
        labels = [label if i in kept else IGNORED_LABEL for i, label in enumerate(row["labels"])]
        result.append({**row, "labels": labels})
    return result
