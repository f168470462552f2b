from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ui.compare.comparison import CastVote, Comparison, Round, Side
from ui.endpoints.chat_events import AnswerDelta, AnswerDone, AnsweredBy, Lineage, ReasoningDelta
from ui.endpoints.served_models import ServedModel

BASE, TUNED = ServedModel("base", "http://127.0.0.1:1/v1"), ServedModel("tuned", "http://127.0.0.1:1/v1")
MODELS = {BASE: "base", TUNED: "tuned"}


def begin(comparison: Comparison, question: str, *, is_blind: bool = False, seed: int = 0) -> Round:
    return comparison.begin_round(question, MODELS, "Be brief.", is_blind=is_blind, chance=random.Random(seed))


def answer(shown: Round, **texts: str) -> None:
    """Ends all sides, each with the text for its model."""
    for side in shown.sides:
        text = texts.get(side.model.model_id, "")
        if text:
            side.add(AnswerDelta(text))
        side.is_live = False


def side_of(shown: Round, model: ServedModel) -> Side:
    return next(side for side in shown.sides if side.model == model)


def contents(side: Side) -> list[str]:
    return [message["content"] for message in side.messages]


def test_each_model_goes_on_from_its_own_answer() -> None:
    comparison = Comparison()
    answer(begin(comparison, "first"), base="one", tuned="two")
    shown = begin(comparison, "second")
    assert contents(side_of(shown, BASE)) == ["Be brief.", "first", "one", "second"]
    assert contents(side_of(shown, TUNED)) == ["Be brief.", "first", "two", "second"]


def test_after_a_vote_all_models_go_on_from_the_preferred_answer() -> None:
    comparison = Comparison()
    first = begin(comparison, "first")
    answer(first, base="one", tuned="two")
    first.vote = CastVote("preferred", first.sides.index(side_of(first, TUNED)))
    shown = begin(comparison, "second")
    assert {tuple(contents(side)) for side in shown.sides} == {("Be brief.", "first", "two", "second")}


def test_a_corrected_answer_is_what_the_conversation_goes_on_from() -> None:
    comparison = Comparison()
    first = begin(comparison, "first")
    answer(first, base="one", tuned="two")
    side_of(first, BASE).corrected = "better"
    assert contents(side_of(begin(comparison, "second"), BASE))[2] == "better"


def test_a_question_that_got_no_answer_is_not_sent_again() -> None:
    comparison = Comparison()
    answer(begin(comparison, "first"), base="one", tuned="two")
    answer(begin(comparison, "too long"), base="three")
    shown = begin(comparison, "next")
    assert contents(side_of(shown, TUNED)) == ["Be brief.", "first", "two", "next"]
    assert contents(side_of(shown, BASE)) == ["Be brief.", "first", "one", "too long", "three", "next"]


def test_a_blind_order_is_drawn_and_stays_while_names_are_hidden() -> None:
    orders: Counter[str] = Counter()
    for seed in range(200):
        comparison = Comparison()
        first = begin(comparison, "first", is_blind=True, seed=seed)
        orders[first.sides[0].model.model_id] += 1
        answer(first, base="one", tuned="two")
        second = begin(comparison, "second", is_blind=True, seed=seed + 1)
        assert [side.model for side in second.sides] == [side.model for side in first.sides]
    assert 70 < orders["base"] < 130


def test_an_open_order_is_that_of_the_choice() -> None:
    assert [side.model for side in begin(Comparison(), "q").sides] == [BASE, TUNED]


def test_names_are_shown_after_the_vote_or_with_an_open_question() -> None:
    comparison = Comparison()
    first = begin(comparison, "first", is_blind=True)
    assert not first.shows_names
    comparison.reveal()
    assert first.shows_names
    other = Comparison()
    hidden = begin(other, "first", is_blind=True)
    begin(other, "second")
    assert hidden.shows_names, (
        "the open round has the same models: the order would tell nothing more, and votes are over"
    )


@given(st.lists(st.integers(0, 50), min_size=2, max_size=4), st.data())
def test_a_blind_round_shows_no_side_faster_than_another(sizes: list[int], data: st.DataObject) -> None:
    sides = [Side(ServedModel(str(i), "u"), str(i), [], answer="x" * size) for i, size in enumerate(sizes)]
    for side in sides:
        side.is_live = data.draw(st.booleans())
    visible = Round("q", sides, is_blind=True).visible_sizes()
    live = [side.size for side in sides if side.is_live]
    for side, size in zip(sides, visible, strict=True):
        assert size == (min([side.size, *live]) if live else side.size)
    assert Round("q", sides).visible_sizes() == sizes


def test_events_fill_a_side() -> None:
    side = Side(BASE, "base", [])
    for event in (AnsweredBy(Lineage(version="support/3")), ReasoningDelta("hm"), AnswerDelta("a"), AnswerDelta("b")):
        side.add(event)
    done = AnswerDone("stop", 3, 2, first_token_s=0.1, total_s=0.2)
    side.add(done)
    assert (side.reasoning, side.answer, side.lineage.version, side.done) == ("hm", "ab", "support/3", done)
    assert side.reasoning_s >= 0


def test_a_round_can_be_voted_once_all_answers_have_ended() -> None:
    shown = begin(Comparison(), "q")
    assert not shown.can_be_voted
    answer(shown, tuned="yes")
    assert shown.can_be_voted
    key = shown.key
    shown.vote = CastVote("tie", None)
    assert not shown.can_be_voted
    shown.take_back_vote()
    assert shown.can_be_voted
    assert shown.key != key
    nothing = begin(Comparison(), "q")
    answer(nothing)
    assert not nothing.can_be_voted
