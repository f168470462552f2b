"""The report of a run's data: it says what the token store holds, and shows its tokens unchanged."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.dataset_stats import collect_stats
from tuneyard.training_data.part_rendering import ChatSource, TokenSettings
from tuneyard.training_data.report.data_report import DataReport
from tuneyard.training_data.report.report_builder import (
    PREVIEW_SAMPLES,
    PREVIEW_TOKENS,
    RenderedForm,
    cut_into_pieces,
    describe_rows,
    preview_samples,
)
from tuneyard.training_data.token_store import TokenStore, build_token_store
from tuneyard.training_data.token_table import IGNORED_LABEL

MAX_LENGTH = 400


def message(role: str, content: str) -> ChatMessage:
    return ChatMessage.model_validate({"role": role, "content": content})


CHATS = [
    ChatExample(
        messages=(
            message("user", f"Frage {n} über 🐈?"),
            message("assistant", "short"),
            message("user", "and more"),
            message("assistant", "word " * (n * n * 3)),
        ),
        source=f"c.jsonl:{n + 1}",
    )
    for n in range(12)
]
PAIRS = [
    ChatExample(
        messages=(message("user", f"question {n}"), message("assistant", "good " * (n + 1))),
        rejected=message("assistant", "bad"),
        source=f"p.jsonl:{n + 1}",
    )
    for n in range(5)
]


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


def store_of(chats: list[ChatExample], checkpoint: Path, folder: Path, *, packed: bool = False) -> TokenStore:
    token_settings = TokenSettings(checkpoint, CodecSettings(), MAX_LENGTH, packed=packed)
    source = ChatSource(lambda: chats, len(chats), "fingerprint", "c.jsonl")
    return build_token_store(source, token_settings, folder, processes=1)


@pytest.mark.parametrize("packed", [False, True])
def test_the_statistics_are_those_of_the_rendered_rows(
    tiny_oss: Path, tmp_path: Path, codec: HarmonyCodec, packed: bool
) -> None:
    store = store_of(CHATS, tiny_oss, tmp_path, packed=packed)
    found = describe_rows(store, len(CHATS), RenderedForm(MAX_LENGTH, is_packed=packed, are_pairs=False))
    everything = collect_stats(CHATS, codec, MAX_LENGTH, 4)
    assert found.too_long == everything.over_max_length > 0
    assert (found.chats, found.samples) == (12, everything.training_rows - everything.over_max_length)
    assert 0 < found.trained_tokens < found.tokens == store.tokens
    assert found.longest <= MAX_LENGTH
    assert sum(found.histogram.values()) == found.samples
    assert found.packs == (store.rows if packed else None)
    assert not packed or store.rows < found.samples


def test_without_long_rows_both_statistics_agree(tiny_oss: Path, tmp_path: Path, codec: HarmonyCodec) -> None:
    for name, chats in (("chats", CHATS[:4]), ("pairs", PAIRS)):
        store = store_of(chats, tiny_oss, tmp_path / name)
        are_pairs = chats is PAIRS
        found = describe_rows(store, len(chats), RenderedForm(MAX_LENGTH, is_packed=False, are_pairs=are_pairs))
        said = collect_stats(chats, codec, MAX_LENGTH, 4)
        assert (found.tokens, found.trained_tokens, found.longest, found.median, found.histogram) == (
            said.tokens, said.trained_tokens, said.longest, said.median, said.histogram,
        )  # fmt: skip
        assert found.samples == said.training_rows * (2 if are_pairs else 1)


def test_the_preview_has_the_first_samples_with_their_names(
    tiny_oss: Path, tmp_path: Path, codec: HarmonyCodec
) -> None:
    store = store_of(PAIRS, tiny_oss, tmp_path)
    preview = preview_samples(store, codec, RenderedForm(MAX_LENGTH, is_packed=False, are_pairs=True))
    assert [sample.name for sample in preview] == [
        "p.jsonl:1 chosen answer", "p.jsonl:1 rejected answer", "p.jsonl:2 chosen answer",
    ][:PREVIEW_SAMPLES]  # fmt: skip
    trained = "".join(piece.text for piece in preview[1].pieces if piece.trained)
    assert "bad" in trained
    assert "question" not in trained
    report = DataReport(
        train=describe_rows(store, 5, RenderedForm(MAX_LENGTH, is_packed=False, are_pairs=True)),
        heldout=None,
        preview=preview,
    )
    assert DataReport.model_validate_json(report.model_dump_json()) == report


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300), cuts=st.lists(st.booleans(), min_size=8, max_size=8))
def test_pieces_are_the_tokens_in_their_order(codec: HarmonyCodec, text: str, cuts: list[bool]) -> None:
    token_ids = codec.encode_text(text)
    labels = [
        token if cuts[place * len(cuts) // len(token_ids)] else IGNORED_LABEL for place, token in enumerate(token_ids)
    ]
    pieces = list(cut_into_pieces(token_ids, labels, codec))
    assert [token for piece in pieces for token in piece.ids] == token_ids[:PREVIEW_TOKENS]
    trained = [piece.trained for piece in pieces for _ in piece.ids]
    assert trained == [label != IGNORED_LABEL for label in labels[:PREVIEW_TOKENS]]
    if all(cuts) and len(token_ids) <= PREVIEW_TOKENS and "\N{REPLACEMENT CHARACTER}" not in text:
        assert "".join(piece.text for piece in pieces) == codec.render_text(token_ids)
