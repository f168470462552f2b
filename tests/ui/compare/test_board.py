from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.ui.compare.test_comparison import BASE, MODELS, TUNED, answer, begin
from ui.compare.board import board_html
from ui.compare.comparison import CastVote, Comparison, Round, Side
from ui.endpoints.chat_events import AnswerDone, AnsweredBy, Lineage
from ui.endpoints.served_models import ServedModel

SECRETS = ("base", "tuned", "127.0.0.1", "support/3", "run-77", "data-88", "tokens/s", "1,234")


def blind_round(order: list[ServedModel]) -> Round:
    sides = []
    for model in order:
        side = Side(model, MODELS[model], [{"role": "user", "content": "q"}], reasoning="hm", answer="The answer")
        side.add(AnsweredBy(Lineage(version="support/3", run="run-77", dataset="data-88")))
        side.add(AnswerDone("stop", 5, 1234 if model is BASE else 4321, first_token_s=0.25, total_s=3.0))
        side.is_live = False
        sides.append(side)
    return Round("q", sides, is_blind=True)


def test_nothing_in_a_blind_round_tells_the_order() -> None:
    """Both orders give the same HTML, so it holds nothing that depends on which model is left."""
    one, other = (board_html(blind_round(order), 1, is_last=True) for order in ([BASE, TUNED], [TUNED, BASE]))
    assert one == other
    assert [secret for secret in SECRETS if secret in one] == []


def test_errors_of_a_blind_round_name_nothing() -> None:
    shown = blind_round([BASE, TUNED])
    shown.sides[0].error = "The model 'base' does not exist (HTTP 404 from http://127.0.0.1:1/v1)"
    assert "127.0.0.1" not in board_html(shown, 1, is_last=True)
    shown.is_revealed = True
    assert "http://127.0.0.1:1/v1" in board_html(shown, 1, is_last=True)


def test_the_names_are_shown_after_the_vote() -> None:
    shown = blind_round([TUNED, BASE])
    shown.vote, shown.is_revealed = CastVote("preferred", 0, "vote_1"), True
    html = board_html(shown, 1, is_last=True)
    assert html.index(">tuned<") < html.index(">base<")
    assert "your choice" in html
    assert "1,234 tokens" in html
    assert "support/3" in html


def test_differences_are_marked_when_both_have_ended() -> None:
    shown = begin(Comparison(), "how long?")
    for side, text in zip(shown.sides, ("Hold it for ten seconds now.", "Hold it for five seconds now."), strict=True):
        side.answer = text
    assert "<mark>" not in board_html(shown, 1, is_last=True)
    answer(shown)
    html = board_html(shown, 1, is_last=True)
    assert "<mark>ten</mark>" in html
    assert "<mark>five</mark>" in html
    assert "86% of the words are equal" in html


@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=60))
def test_texts_of_models_and_people_are_text(question: str, one: str, other: str) -> None:
    shown = begin(Comparison(), question + "<img src=x onerror=alert(1)>")
    answer(shown, base=one + "<script>alert(1)</script>", tuned=other + "</span><form>")
    shown.sides[0].error = "<iframe>"
    html = board_html(shown, 1, is_last=True)
    assert not any(tag in html for tag in ("<img", "<script", "<form", "<iframe"))


def test_only_the_last_round_can_be_edited() -> None:
    shown = begin(Comparison(), "q")
    answer(shown, base="one", tuned="two")
    assert 'data-compare="correct"' in board_html(shown, 1, is_last=True)
    assert 'data-compare="correct"' not in board_html(shown, 1, is_last=False)
    assert 'data-compare="copy"' in board_html(shown, 1, is_last=False)
