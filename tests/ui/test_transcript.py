from __future__ import annotations

from ui.chat_client import AnswerDelta, AnswerDone, ReasoningDelta
from ui.transcript import Turn, answer_notes, api_messages, display_messages


def test_requests_contain_no_reasoning_notes_or_errors() -> None:
    turns = [
        Turn("first", reasoning="hm", answer="one", notes=("stopped",), live=False),
        Turn("too long", error="The model refused the request", live=False),
    ]
    assert api_messages(turns, "second", "Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "second"},
    ]
    assert api_messages([], "alone", "  ") == [{"role": "user", "content": "alone"}]


def test_reasoning_is_folded_when_the_answer_begins() -> None:
    turn = Turn("why?", model_id="smol")
    turn.add(ReasoningDelta("let me see"))
    assert display_messages([turn])[-1]["metadata"] == {"title": "Reasoning", "status": "pending"}
    turn.add(AnswerDelta("because"))
    question, reasoning, answer = display_messages([turn])
    assert (question["content"], reasoning["content"], answer["content"]) == ("why?", "let me see", "because")
    assert reasoning["metadata"]["status"] == "done"


def test_the_note_below_an_answer() -> None:
    cut = AnswerDone("length", 1200, 33, first_token_s=0.5, total_s=2.5)
    assert answer_notes(cut) == (
        "cut at the token limit",
        "33 tokens for a prompt of 1,200",
        "16.0 tokens/s",
        "first token after 0.50 s",
    )
    assert answer_notes(AnswerDone("stop", None, None, None, 0.1)) == ()
    turn = Turn("q", model_id="smol", reasoning="only thoughts")
    turn.add(cut)
    assert display_messages([turn])[-1]["content"].startswith("↳ smol · no answer · cut at the token limit")


def test_tags_in_a_question_are_escaped() -> None:
    assert display_messages([Turn("what is <div>?")])[0]["content"] == "what is &lt;div&gt;?"
    assert display_messages([Turn("what is `<div>`?")])[0]["content"] == "what is `<div>`?"
