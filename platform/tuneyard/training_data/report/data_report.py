"""DataReport: the content of data.json in a run's folder. The file holds text of chats, as the run's tokens do."""

from __future__ import annotations

from tuneyard.core.strict_model import StrictModel

REPORT_NAME = "data.json"
"""The report's file in the run's folder."""


class RenderedData(StrictModel):
    """Statistics of the rows that were rendered from one dataset. Lengths are in tokens."""

    chats: int
    """Chats or preference pairs."""
    pairs: bool
    """Whether the data are preference pairs."""
    samples: int
    """Trained turns; of each pair two, its answers with their prompt."""
    tokens: int
    trained_tokens: int
    """Tokens with loss."""
    longest: int
    """The longest sample."""
    median: int
    too_long: int
    """Samples over `max_length`, which were left out."""
    max_length: int
    histogram: dict[int, int]
    """Each power of two with the number of samples of at most so many tokens, and more than half of that."""
    packs: int | None
    """Rows that hold several samples each; null if the samples are not packed."""


class TokenPiece(StrictModel):
    """Tokens that show as one piece of text: one token, or those that share a character."""

    text: str
    ids: tuple[int, ...]
    trained: bool


class SamplePreview(StrictModel):
    """The beginning of one sample, token by token."""

    name: str
    """Where the sample comes from; of a pair also which answer it is."""
    tokens: int
    """Tokens of the whole sample."""
    pieces: tuple[TokenPiece, ...]


class DataReport(StrictModel):
    """What a run is trained on and measured with."""

    train: RenderedData
    heldout: RenderedData | None
    preview: tuple[SamplePreview, ...]
    """The first samples of the training data."""
