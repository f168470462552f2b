"""What happens on the Compare page's events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import gradio as gr

from tuneyard.api.wire.platform_api.votes import Outcome
from ui.compare.board import board_html
from ui.compare.comparison import LETTERS, MIN_MODELS, CastVote, Comparison, Round, Side
from ui.compare.components import CompareComponents
from ui.compare.memory import ComparisonMemory
from ui.compare.parallel_answers import ParallelAnswers
from ui.compare.votes.keeper import ExportForm, VoteKeeper, VotesError, VotesNotKeptError
from ui.compare.votes.vote_records import correction_request, vote_request
from ui.compare.votes.votes_panel import panel_html, problem_html, voted_html
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_events import ChatEvent
from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.model_labels import label_of, model_choices, problem_sentences
from ui.endpoints.served_models import ServedModel
from ui.endpoints.visitor import VisitorOf

Values = dict[Any, Any]
"""Values by component, as Gradio passes them to a handler and takes them back."""

GONE = (
    "This comparison is gone: the page's server was restarted since, or a thousand others have begun. Votes that were "
    "cast are kept. Ask again to begin a new one."
)
TOO_FEW = "Choose two to four models at the top. Each answers every question."
EMPTY_EXPORTS: dict[ExportForm, str] = {
    "preferences": "There are no preferences yet. Ask a question, and vote for one of the answers.",
    "corrections": "There are no corrections yet. Edit an answer with the pencil under it.",
}


class CompareHandlers:
    """Handlers of the page's events."""

    def __init__(self, client: ChatClient, votes: VoteKeeper, on: CompareComponents, visitor_of: VisitorOf) -> None:
        self._client = client
        self._votes = votes
        self.on = on
        self._visitor_of = visitor_of
        self._memory = ComparisonMemory()
        self._answers = ParallelAnswers()
        self._shown: dict[str, Comparison] = {}
        """What sessions show: answers of another comparison are kept and not drawn."""

    async def list_models(self, values: Values, request: gr.Request) -> Values:
        """Updates the list of models. Choices that are still served stay; without any, the first two are chosen."""
        listing = await self._client.models(self._key(request))
        keys = [model.key for model in listing.models]
        before = list(values[self.on.models] or keys[:MIN_MODELS])
        gone = [ServedModel.from_key(key).model_id for key in before if keys and key not in keys]
        problems = list(problem_sentences(listing))
        if gone:
            problems.append(f"No longer served: {', '.join(gone)}. Choose other models.")
        chosen = [key for key in before if key in keys]
        return {
            self.on.models: gr.update(choices=model_choices(listing), value=chosen),
            **self._problem("\n\n".join(problems)),
            **await self._win_rates(request),
        }

    async def load_models(self, values: Values, request: gr.Request) -> Values:
        """As `list_models`, for a page that opens: what `restore` says stays, unless the list has a problem."""
        updates = await self.list_models(values, request)
        if not updates[self.on.problem]["value"]:
            del updates[self.on.problem]
        return updates

    async def restore(self, token: str, request: gr.Request) -> Values:
        """Shows the comparison that the reloaded tab had."""
        comparison = self._memory.find(token)
        if comparison is None:
            return {**self._blank(), **self._problem(GONE if token else "")}
        self._shown[str(request.session_hash)] = comparison
        if comparison.last is not None:
            self._answers.stop_round(comparison.last)
        return {self.on.token: token, **self._history(comparison), **self._last(comparison)}

    async def ask(self, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Sends the question to all models."""
        async with aclosing(self._ask(values[self.on.question], values, request)) as updates:
            async for update in updates:
                yield update

    def ask_example(self, text: str) -> Callable[[Values, gr.Request], AsyncGenerator[Values, None]]:
        """The handler of an example's button."""

        async def ask(values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
            async with aclosing(self._ask(text, values, request)) as updates:
                async for update in updates:
                    yield update

        return ask

    async def follow(self, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Draws the answers while they grow.

        Apart from `ask` because Gradio makes each output that an update leaves out anew, at each update.
        """
        yield {self.on.board: gr.skip()}  # Gradio empties the outputs of a handler that yields nothing
        session = str(request.session_hash)
        comparison = self._shown.get(session)
        async with aclosing(self._answers.watch(session)) as changes:
            async for shown in changes:
                if comparison is not None and self._shown.get(session) is comparison:
                    yield {self.on.board: board_html(shown, len(comparison.rounds), is_last=True)}

    async def settle(self, request: gr.Request) -> Values:
        """Shows what can be done with the answers, once they have ended."""
        comparison = self._shown.get(str(request.session_hash))
        if comparison is None or comparison.last is None:
            return {self.on.board: gr.skip()}
        if comparison.last.is_live:  # another question was asked meanwhile
            return {self.on.board: gr.skip()}
        return {**self._last(comparison), **self._buttons(is_live=False)}

    async def stop(self, request: gr.Request) -> None:
        """Stops the session's answers and keeps the text so far."""
        self._answers.stop(str(request.session_hash))

    async def leave(self, request: gr.Request) -> None:
        """The tab was closed or reloaded."""
        self._answers.stop(str(request.session_hash))
        self._shown.pop(str(request.session_hash), None)

    async def begin_anew(self, values: Values, request: gr.Request) -> Values:  # noqa: ARG002
        """Empties the page. The comparison stays in memory: the page offers to show it again."""
        await self.leave(request)
        return {**self._blank(), self.on.token: "", **self._problem("")}

    def vote(self, outcome: Outcome, preferred: int | None = None) -> Callable[[Values, gr.Request], Awaitable[Values]]:
        """The handler of a vote's button."""

        async def cast(values: Values, request: gr.Request) -> Values:
            comparison = self._memory.find(values[self.on.token])
            if comparison is None or comparison.last is None:
                return self._problem(GONE)
            shown = comparison.last
            if not shown.can_be_voted:  # a second click
                return self._last(comparison)
            vote = vote_request(shown, outcome, preferred, values[self.on.reason] or "", shown.settings)
            try:
                kept = await self._votes.create_vote(vote, shown.key, self._key(request))
                cast_vote = CastVote(outcome, preferred, kept.id)
            except VotesNotKeptError as e:
                cast_vote = CastVote(outcome, preferred, problem=str(e))
            except VotesError as e:
                # Names stay hidden: the person may vote again.
                return self._problem(f"{e} The vote is not kept yet; vote again.")
            shown.vote = cast_vote
            comparison.reveal()
            return {
                **self._history(comparison),
                **self._last(comparison),
                **await self._win_rates(request),
                self.on.reason: "",
            }

        return cast

    async def undo_vote(self, values: Values, request: gr.Request) -> Values:
        """Takes the vote back. Another vote on the same answers is none with hidden names."""
        comparison = self._memory.find(values[self.on.token])
        if comparison is None or comparison.last is None:
            return self._problem(GONE)
        vote = comparison.last.vote
        if vote is not None and vote.vote_id:
            try:
                await self._votes.delete_vote(vote.vote_id, self._key(request))
            except VotesError as e:
                return self._problem(str(e))
        comparison.last.take_back_vote()
        return {**self._last(comparison), **await self._win_rates(request)}

    async def correct(self, values: Values, event: gr.EventData, request: gr.Request) -> Values:
        """Keeps an answer as the person wrote it; the conversation goes on from it."""
        comparison = self._memory.find(values[self.on.token])
        if comparison is None or comparison.last is None:
            return self._problem(GONE)
        shown = comparison.last
        data = getattr(event, "_data", None)
        side, text = _edited(shown, data)
        if side is None or not text.strip() or text == side.text:
            return {self.on.board: gr.skip()}
        problem = ""
        try:
            correction = correction_request(side, text, shown.settings)
            await self._votes.create_correction(correction, shown.correction_key(side, text), self._key(request))
        except VotesNotKeptError as e:
            problem = f"The correction is shown here only. {e}"
        except VotesError as e:
            return self._problem(f"{e} The correction is not kept.")
        side.corrected = text
        return {**self._last(comparison), **await self._win_rates(request), **self._problem(problem)}

    def export(self, form: ExportForm) -> Callable[[gr.Request], Awaitable[Values]]:
        """The handler of an export's button."""

        async def export(request: gr.Request) -> Values:
            try:
                text = await self._votes.export(form, self._key(request))
            except VotesError as e:
                return {self.on.download: None, **self._problem(str(e))}
            if not text:
                return {self.on.download: None, **self._problem(EMPTY_EXPORTS[form])}
            return {self.on.download: {"name": f"{form}.jsonl", "text": text}, **self._problem("")}

        return export

    async def _ask(self, question: str, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        if not question.strip():
            yield {self.on.question: ""}
            return
        session = str(request.session_hash)
        if self._answers.is_running(session):
            yield {self.on.question: gr.skip()}
            return
        if (values[self.on.max_tokens] or 0) < 0:
            yield self._problem("Max tokens must be a number from 1, or empty for the model's limit.")
            return
        chosen = values[self.on.models]
        if not chosen:
            listed = await self.list_models(values, request)  # a model may have been deployed after the page was loaded
            chosen = listed[self.on.models]["value"]
            yield listed
        models = _labelled([ServedModel.from_key(key) for key in chosen])
        if not MIN_MODELS <= len(models) <= len(LETTERS):
            yield self._problem(TOO_FEW)
            return
        token = values[self.on.token]
        comparison = self._memory.find(token)
        if comparison is None:
            token, comparison = self._memory.create()
        shown = comparison.begin_round(
            question, models, values[self.on.system_prompt] or "", is_blind=bool(values[self.on.is_blind])
        )
        shown.settings = _settings(values, self.on)
        self._shown[session] = comparison
        self._answers.start(session, shown, self._streams(values, self._key(request)))
        yield {
            self.on.token: token,
            self.on.question: gr.update(value="", submit_btn=False, stop_btn=True),
            **self._history(comparison),
            **self._last(comparison),
            **self._problem(""),
        }

    def _streams(self, values: Values, key: str | None) -> Callable[[Side], AsyncIterator[ChatEvent]]:
        def stream(side: Side) -> AsyncIterator[ChatEvent]:
            request = ChatRequest(
                model=side.model,
                messages=side.messages,
                temperature=values[self.on.temperature],
                max_tokens=values[self.on.max_tokens] or None,
                reasoning_effort=values[self.on.effort] or None,
            )
            return self._client.stream(request, key)

        return stream

    def _key(self, request: gr.Request) -> str | None:
        return self._visitor_of(request).key

    async def _win_rates(self, request: gr.Request) -> Values:
        """The panel of votes; where they cannot be read, why."""
        try:
            return {self.on.win_rates: panel_html(await self._votes.summarize(self._key(request)))}
        except VotesError as e:
            return {self.on.win_rates: problem_html(str(e))}

    def _blank(self) -> Values:
        hidden = gr.update(visible=False)
        return {
            self.on.intro: gr.update(visible=True), self.on.history: "", self.on.board: "",
            self.on.vote_bar: hidden, self.on.voted_row: hidden, self.on.reason: "",
            **self._buttons(is_live=False),
        }  # fmt: skip

    def _history(self, comparison: Comparison) -> Values:
        earlier = enumerate(comparison.rounds[:-1], start=1)
        html = "".join(board_html(shown, number, is_last=False) for number, shown in earlier)
        return {self.on.history: html, self.on.intro: gr.update(visible=not comparison.rounds)}

    def _last(self, comparison: Comparison) -> Values:
        """The last round, and what can be done with it."""
        shown = comparison.last
        if shown is None:
            return self._blank()
        sides = len(shown.sides)
        return {
            self.on.board: board_html(shown, len(comparison.rounds), is_last=True),
            self.on.vote_bar: gr.update(visible=shown.can_be_voted),
            **{
                button: gr.update(visible=i < sides, interactive=i < sides and bool(shown.sides[i].answer))
                for i, button in enumerate(self.on.better)
            },
            self.on.both_bad: gr.update(value="Both bad" if sides == MIN_MODELS else "All bad"),
            self.on.voted_row: gr.update(visible=shown.vote is not None),
            self.on.voted: voted_html(shown.vote, [side.label for side in shown.sides]) if shown.vote else "",
        }

    def _buttons(self, *, is_live: bool) -> Values:
        return {self.on.question: gr.update(submit_btn=not is_live, stop_btn=is_live)}

    def _problem(self, text: str) -> Values:
        return {self.on.problem: gr.update(value=text, visible=bool(text))}


def _labelled(models: Sequence[ServedModel]) -> dict[ServedModel, str]:
    return {model: label_of(model, models) for model in models}


def _settings(values: Values, on: CompareComponents) -> dict[str, str]:
    """The settings of a round's requests, as the metadata of its votes."""
    settings = {
        "temperature": values[on.temperature],
        "max_tokens": values[on.max_tokens] or None,  # gradio sends 0 for an empty box
        "reasoning_effort": values[on.effort] or None,
    }
    return {name: str(value) for name, value in settings.items() if value is not None}


def _edited(shown: Round, data: Any) -> tuple[Side | None, str]:
    """The side that the browser names, and its new text; None if it names none that can be edited."""
    match data:
        case {"act": "correct", "side": int(position), "text": str(text)} if 0 <= position < len(shown.sides):
            side = shown.sides[position]
            return (side, text) if side.answer and not shown.is_live else (None, "")
    return None, ""
