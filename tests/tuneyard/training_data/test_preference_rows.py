"""Preference pairs in the checks, the statistics and the token table of a dataset."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneyard.chats.messages import ChatExample, ChatMessage
from tuneyard.chats.row_settings import RowSettings
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.loss_mask import TrainingSample
from tuneyard.harmony.settings import CodecSettings
from tuneyard.training_data.answer_conflicts import ConflictFinder
from tuneyard.training_data.dataset_review import DatasetReview
from tuneyard.training_data.dataset_stats import collect_stats
from tuneyard.training_data.duplicates import DuplicateFinder
from tuneyard.training_data.row_checks import RowChecker
from tuneyard.training_data.token_table import (
    IGNORED_LABEL,
    TOKEN_COLUMNS,
    TokenTableBuilder,
    build_token_table,
    split_pairs,
)


@pytest.fixture(scope="module")
def codec(tiny_oss: Path) -> HarmonyCodec:
    return HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())


def pair(chosen: str, rejected: str, question: str = "q", line: int = 1) -> ChatExample:
    return ChatExample(
        messages=(ChatMessage(role="user", content=question), ChatMessage(role="assistant", content=chosen)),
        rejected=ChatMessage(role="assistant", content=rejected),
        source=f"p.jsonl:{line}",
    )


def test_both_answers_stand_behind_the_prompt_that_serving_renders(codec: HarmonyCodec) -> None:
    """Also of a chat with a system message, earlier turns and reasoning."""
    example = ChatExample(
        messages=(
            ChatMessage(role="system", content="Be brief."),
            ChatMessage(role="user", content="Hello"),
            ChatMessage(role="assistant", content="Hi.", reasoning_content="Greet.", weight=0),
            ChatMessage(role="user", content="Is peat a rock?"),
            ChatMessage(role="assistant", content="No.", reasoning_content="Peat is moss."),
        ),
        rejected=ChatMessage(role="assistant", content="Yes.", reasoning_content="It is hard."),
        source="p.jsonl:1",
    )
    prompt = codec.render(example.last_prompt)
    for with_reasoning in (True, False):
        table = build_token_table([example, pair("a", "b")], codec, 512, with_reasoning)
        assert table.rows.num_rows == 2
        chosen, rejected = split_pairs(table.rows).to_pylist()[:2]
        for half, answer in ((chosen, "No."), (rejected, "Yes.")):
            assert half["input_ids"][: len(prompt)] == prompt
            assert half["position_ids"] == list(range(len(half["input_ids"])))
            trained = [label for label in half["labels"] if label != IGNORED_LABEL]
            text = codec.render_text(trained)
            assert text.endswith(f"<|channel|>final<|message|>{answer}<|return|>")
            assert ("<|channel|>analysis" in text) == with_reasoning
        sources = table.rows["source"].to_pylist()
        assert sources == ["p.jsonl:1", "p.jsonl:1"]


def test_a_pair_with_an_answer_over_the_maximum_length_is_left_out_and_named(codec: HarmonyCodec) -> None:
    examples = [pair("a", "b"), pair("a", "long " * 50, line=2), pair("long " * 50, "b", line=3)]
    limit = len(codec.render(examples[0].last_prompt)) + 10
    table = build_token_table(examples, codec, limit)
    assert table.rows.num_rows == 1
    assert [text.rpartition(":")[0] for text in table.too_long] == [
        "p.jsonl:2 rejected answer",
        "p.jsonl:3 chosen answer",
    ]
    problems = [RowChecker(codec, limit).find_problems(example) for example in examples]
    assert [[problem.kind for problem in each] for each in problems] == [[], ["too_long"], ["too_long"]]
    assert "rejected answer has" in problems[1][0].text


SAMPLES = st.lists(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).map(lambda ids: TrainingSample(ids, [True] * len(ids))),
    min_size=1,
    max_size=3,
)


@given(st.lists(SAMPLES, max_size=6), st.integers(1, 3))
def test_split_pairs_gives_the_samples_of_any_table(rows: list[list[TrainingSample]], parts: int) -> None:
    """Also of a table of several chunks, of a slice, and of rows that are no pairs."""
    builder = TokenTableBuilder()
    for number, samples in enumerate(rows):
        builder.add(samples, str(number))
    table = builder.build().rows
    chunked = pa.concat_tables([table.slice(start, parts) for start in range(0, len(rows), parts)] or [table])
    split = split_pairs(chunked)
    assert split.column_names == list(TOKEN_COLUMNS)
    assert split["input_ids"].to_pylist() == [sample.token_ids for samples in rows for sample in samples]
    assert split["segment_ids"].to_pylist() == [
        [number] * len(sample.token_ids) for samples in rows for number, sample in enumerate(samples)
    ]


def test_rows_of_one_sample_are_stored_as_ever() -> None:
    builder = TokenTableBuilder()
    for ids in ([1, 2, 3], [4]):
        builder.add((TrainingSample(ids, [False, *[True] * (len(ids) - 1)]),), "s")
    rows = builder.build().rows.to_pylist()
    assert [row["labels"] for row in rows] == [[IGNORED_LABEL, 2, 3], [IGNORED_LABEL]]
    assert [row["position_ids"] for row in rows] == [[0, 1, 2], [0]]
    assert [row["segment_ids"] for row in rows] == [[0, 0, 0], [0]]


def test_a_pair_counts_with_both_answers() -> None:
    duplicates, conflicts = DuplicateFinder(), ConflictFinder()
    rows = [
        pair("a", "b"),
        pair("a", "c", line=2),
        pair("d", "b", line=3),
        pair("A", "B!", line=4),
        pair("b", "a", line=5),
    ]
    found = [duplicates.find_problem(row, is_heldout=False) for row in rows]
    assert [problem and problem.kind for problem in found] == [None, None, None, "near_duplicate", None]
    contradicted = [conflicts.find_problem(row) for row in rows]
    assert contradicted[:4] == [None] * 4
    assert contradicted[4] is not None
    assert contradicted[4].text.startswith("row or line 1 prefers the other one of the same two answers")


def test_a_held_out_pair_must_not_be_a_training_pair() -> None:
    finder = DuplicateFinder()
    assert finder.find_problem(pair("a", "b"), is_heldout=False) is None
    leaked, new = (finder.find_problem(row, is_heldout=True) for row in (pair("a", "b"), pair("a", "c")))
    assert leaked is not None
    assert leaked.kind == "leakage"
    assert new is None


def test_a_rejected_answer_is_checked_too() -> None:
    (problem,) = RowChecker().find_problems(pair("a", "b\x00"))
    assert problem.kind == "control_character"
    assert "the rejected answer (assistant) contains" in problem.text


def test_statistics_count_pairs(codec: HarmonyCodec) -> None:
    examples = [pair("a", "b c d"), pair("x " * 40, "y", line=2), pair("e", "f", line=3)]
    lengths = [[len(s.token_ids) for half in e.halves() for s in codec.render_for_training(half)] for e in examples]
    limit = max(lengths[0])
    stats = collect_stats(examples, codec, limit, batch_size=2)
    assert (stats.rows, stats.pairs, stats.training_rows, stats.turns) == (3, 3, 3, 6)
    assert stats.tokens == sum(map(sum, lengths))
    assert stats.longest == max(map(max, lengths))
    assert stats.over_max_length == 1
    assert stats.steps_per_epoch == 1
    assert stats.packs is stats.packing_efficiency is stats.steps_per_epoch_packed is None
    used = sum(lengths[0]) + sum(lengths[2])
    assert stats.padding_efficiency == pytest.approx(used / (4 * limit))


def test_a_review_keeps_pairs_and_names_nothing_to_learn(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"prompt": "r", "chosen": "a", "rejected": "b", "weight": 0},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    review = DatasetReview(str(file), RowSettings(), RowChecker(), accepts_pairs=True)
    reviewed = list(review)
    assert [row.example is not None for row in reviewed] == [True, True]
    assert review.counts.of("warning") == {"no_trained_turn": 1}
    file.write_text(json.dumps(rows[1]))
    only = DatasetReview(str(file), RowSettings(), RowChecker(), accepts_pairs=True)
    assert "nothing_to_learn" in {problem.kind for row in only for problem, _ in row.problems}
    refused = DatasetReview(str(file), RowSettings(), RowChecker())
    assert [problem.kind for row in refused for problem, _ in row.problems] == ["preference_pair"]
