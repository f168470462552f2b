"""Comparison: a question and its follow-ups to several models, with their answers side by side and the vote on them."""

from __future__ import annotations

import hashlib
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tuneyard.api.wire.platform_api.votes import Outcome
from ui.endpoints.chat_events import AnswerDelta, AnswerDone, AnsweredBy, ChatEvent, Lineage, ReasoningDelta
from ui.endpoints.served_models import ServedModel

LETTERS = "ABCD"
"""Names of the sides, from left to right."""

MIN_MODELS = 2

Message = dict[str, str]


@dataclass
class Side:
    """One model's answer to one question, which grows while it streams."""

    model: ServedModel
    label: str
    """The model's name, which no other model of the page has."""
    messages: list[Message]
    """What the model is given; the last message is the question."""
    lineage: Lineage = field(default_factory=Lineage)
    reasoning: str = ""
    reasoning_s: float = 0.0
    """Seconds from the first text of the reasoning to the first of the answer, or to the last of the reasoning."""
    answer: str = ""
    corrected: str | None = None
    """The answer as the person wrote it."""
    done: AnswerDone | None = None
    error: str | None = None
    is_live: bool = True
    is_stopped: bool = False
    _reasoning_began: float | None = None

    @property
    def text(self) -> str:
        """The answer that the conversation goes on with."""
        return self.answer if self.corrected is None else self.corrected

    @property
    def size(self) -> int:
        """Characters received so far."""
        return len(self.reasoning) + len(self.answer)

    def add(self, event: ChatEvent) -> None:
        """Adds one event of the stream."""
        match event:
            case AnsweredBy(lineage):
                self.lineage = lineage
            case ReasoningDelta(text):
                self.reasoning += text
                self._time_reasoning()
            case AnswerDelta(text):
                if not self.answer:
                    self._time_reasoning()
                self.answer += text
            case AnswerDone():
                self.done = event

    def _time_reasoning(self) -> None:
        if self._reasoning_began is None:
            self._reasoning_began = time.monotonic()
        self.reasoning_s = time.monotonic() - self._reasoning_began


@dataclass
class CastVote:
    """A vote on a round: its outcome, and its id where votes are kept; or why it is not kept."""

    outcome: Outcome
    preferred: int | None
    vote_id: str = ""
    problem: str = ""


@dataclass
class Round:
    """One question and its answers, from left to right. In a blind round nothing shows which model is which."""

    question: str
    sides: list[Side]
    is_blind: bool = False
    is_revealed: bool = False
    """Whether the models' names were shown."""
    vote: CastVote | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """Temperature and so on, by their names."""
    key: str = field(default_factory=lambda: secrets.token_hex(16))
    """Idempotency key of the vote: a vote that is sent again is kept once."""
    _secret: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def shows_names(self) -> bool:
        return self.is_revealed or not self.is_blind

    @property
    def is_live(self) -> bool:
        return any(side.is_live for side in self.sides)

    @property
    def can_be_voted(self) -> bool:
        """Whether all answers have ended, at least one with text, and no vote was cast."""
        return not self.is_live and self.vote is None and any(side.answer for side in self.sides)

    def take_back_vote(self) -> None:
        """Lets the person vote again, under another key: the vote may be another one."""
        self.vote = None
        self.key = secrets.token_hex(16)

    def correction_key(self, side: Side, text: str) -> str:
        """Idempotency key of a correction of one side."""
        content = f"{self.sides.index(side)}\n{self.question}\n{side.answer}\n{text}\n{self._secret}"
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def visible_sizes(self) -> list[int]:
        """Characters of each side to show now. A blind round shows no side faster than another: speed is a name too."""
        if self.shows_names:
            return [side.size for side in self.sides]
        pace = min((side.size for side in self.sides if side.is_live), default=None)
        return [side.size if pace is None else min(side.size, pace) for side in self.sides]


@dataclass
class Comparison:
    """The rounds of one conversation with several models."""

    rounds: list[Round] = field(default_factory=list)

    @property
    def last(self) -> Round | None:
        return self.rounds[-1] if self.rounds else None

    def begin_round(
        self,
        question: str,
        models: Mapping[ServedModel, str],
        system_prompt: str,
        *,
        is_blind: bool,
        chance: random.Random | None = None,
    ) -> Round:
        """Adds a round with the history that each model gets, in an order that is drawn if the round is blind.

        `models` are the models with their labels, from left to right.

        After a vote for one answer all models go on from that answer, so that they are compared on the same
        conversation; otherwise each goes on from its own. While names are hidden, follow-ups keep their order.
        """
        histories = {model: self._history_of(model) for model in models}
        order = list(models)
        if is_blind:
            order = self._hidden_order(order) or _drawn(order, chance or secrets.SystemRandom())
        else:
            self.reveal()
        system = [{"role": "system", "content": system_prompt}] if system_prompt.strip() else []
        ask = {"role": "user", "content": question}
        sides = [Side(model, models[model], [*system, *histories[model], ask]) for model in order]
        self.rounds.append(Round(question, sides, is_blind))
        return self.rounds[-1]

    def reveal(self) -> None:
        """Shows the models' names in all rounds: follow-ups keep the order, so one name tells the others."""
        for shown in self.rounds:
            shown.is_revealed = True

    def _hidden_order(self, models: Sequence[ServedModel]) -> list[ServedModel] | None:
        """The order of the last round, if its names are hidden and its models are these."""
        if self.last is None or self.last.shows_names:
            return None
        order = [side.model for side in self.last.sides]
        return order if set(order) == set(models) else None

    def _history_of(self, model: ServedModel) -> list[Message]:
        for earlier in reversed(self.rounds):
            voted = earlier.vote.preferred if earlier.vote is not None else None
            side = (
                earlier.sides[voted]
                if voted is not None
                else next((side for side in earlier.sides if side.model == model), None)
            )
            if side is not None and side.text.strip():
                return [*_without_system(side.messages), {"role": "assistant", "content": side.text}]
            if side is not None:
                # A question without an answer is left out, or each later request would repeat what was refused.
                return _without_system(side.messages)[:-1]
        return []


def _without_system(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message["role"] != "system"]


def _drawn(models: Sequence[ServedModel], chance: random.Random) -> list[ServedModel]:
    order = list(models)
    chance.shuffle(order)
    return order
