"""ResponsesService: answers POST /v1/responses, whole or streamed. Knows neither HTTP nor Ray."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from serve_apps.answers.async_streams import SourceClosingStream, read_first
from serve_apps.answers.chat_answer import ChatPiece
from serve_apps.answers.engine_stream import final_finish_reason
from serve_apps.api.chat import ChatService, RunningChat
from serve_apps.api.responses.answer_fields import begin_response, end_response, response_error
from serve_apps.api.responses.chat_conversion import in_terms_of_response, to_chat_request
from serve_apps.api.responses.output_events import OutputEvents
from serve_apps.api.responses.store import Item, ResponseStore, StoredItem
from serve_apps.api.responses.stored_items import item_fields, new_item_id, parse_items
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.generation.served_model import ServedModel
from serve_apps.http_front.body_limits import check_content
from tuneyard.api.wire.responses.answer import Response, ResponseStatus
from tuneyard.api.wire.responses.events import LifecycleEvent, ResponseEvent
from tuneyard.api.wire.responses.items import InputItem, ItemReference
from tuneyard.api.wire.responses.request import ResponsesRequest
from tuneyard.core.errors import EngineError, RequestError, StoreUnavailableError

Event = TypeVar("Event")
_Pieces = SourceClosingStream[ChatPiece | None]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Run:
    """A response that is being answered."""

    owner: str
    response: Response
    chat: RunningChat
    output: OutputEvents
    history: Sequence[StoredItem]
    items: list[Item] = field(default_factory=list)
    """The request's own input, as it is stored; empty if it is not."""
    is_cancelled: bool = False

    def end(self, status: ResponseStatus) -> None:
        end_response(self.response, status, self.output, self.chat.usage())


class ResponsesService:
    """POST /v1/responses for one model: a chat completion in another form.

    `owner` is the digest of the request's API key, "" where none is needed: it sees only what it stored itself.
    """

    def __init__(self, model: ServedModel, chat: ChatService, stored: StoredResponses) -> None:
        self._model = model
        self._chat = chat
        self._stored = stored

    async def complete(self, request: ResponsesRequest, owner: str = "") -> Response:
        """Returns the whole answer. Raises RequestError if the request cannot be answered, EngineError if it fails."""
        run = await self._prepare(request, owner)
        pieces = await self._start(run)
        async with contextlib.aclosing(pieces), self._recorded(run):
            async for _ in self._output_events(run, pieces):
                pass
            await self._finish(run)
        return run.response

    async def open_stream(self, request: ResponsesRequest, owner: str = "") -> SourceClosingStream[ResponseEvent]:
        """Returns the answer as events.

        Errors before the engine accepts the request are raised here, where they can still become an HTTP status. Later
        ones end the stream with `response.failed`. Closing the returned stream aborts the request in the engine.
        """
        run = await self._prepare(request, owner)
        events = self._numbered_events(run, await self._start(run))
        # Read here, so that a store that does not answer can still become an HTTP status.
        first = await read_first(events)
        return SourceClosingStream(_chain(first, events), events)

    async def _prepare(self, request: ResponsesRequest, owner: str) -> _Run:
        """Checks the request, reads its history and renders its prompt."""
        self._model.check_name(request.model)
        is_stored = self._stored.keeps(request)
        history = await self._stored.history_of(owner, request)
        items = await self._stored.resolve_references(owner, request.input_items, self._model.limits)
        if history or any(isinstance(item, ItemReference) for item in request.input_items):
            whole = [item.content for item in history] + [item_fields(item) for item in items]
            check_content({"input": whole}, self._model.limits)
        chat_request = to_chat_request(request.model_copy(update={"input": items}), parse_items(history))
        try:
            chat = await self._chat.prepare(chat_request)
        except RequestError as e:
            raise in_terms_of_response(e) from e
        effort = chat_request.reasoning_effort or self._model.codec.settings.reasoning_effort
        response = begin_response(request, effort, is_stored=is_stored)
        options = request.stream_options
        output = OutputEvents(
            has_summary=request.reasoning.has_summary,
            is_obfuscated=options is not None and options.include_obfuscation,
        )
        return _Run(owner, response, chat, output, history, _new_items(items, history) if is_stored else [])

    async def _start(self, run: _Run) -> _Pieces:
        """The answer's pieces, once the engine has accepted the request. Raises RequestError if it does not."""
        pieces = self._chat.pieces(run.chat)
        try:
            first = await read_first(pieces)
        except RequestError as e:
            raise in_terms_of_response(e) from e
        return SourceClosingStream(_chain(first, pieces), pieces)

    async def _numbered_events(self, run: _Run, pieces: _Pieces) -> AsyncGenerator[ResponseEvent, None]:
        numbers = itertools.count()
        async with contextlib.aclosing(self._events(run, pieces)) as events:
            async for event in events:
                event.sequence_number = next(numbers)
                yield event

    async def _events(self, run: _Run, pieces: _Pieces) -> AsyncGenerator[ResponseEvent, None]:
        async with contextlib.aclosing(pieces), self._recorded(run):
            begun = run.response.model_copy()
            yield LifecycleEvent(type="response.created", response=begun)
            yield LifecycleEvent(type="response.in_progress", response=begun)
            try:
                async for event in self._output_events(run, pieces):
                    yield event
            except RequestError as e:
                logger.warning("response ended by %s: %s", type(e).__name__, e.message)
                for event in run.output.close("incomplete"):
                    yield event
                run.end("failed")
                run.response.error = response_error(e)
            await self._finish(run)
        match run.response.status:
            case "completed":
                yield LifecycleEvent(type="response.completed", response=run.response)
            case "failed":
                yield LifecycleEvent(type="response.failed", response=run.response)
            case _:
                yield LifecycleEvent(type="response.incomplete", response=run.response)

    async def _output_events(self, run: _Run, pieces: _Pieces) -> AsyncIterator[ResponseEvent]:
        """The events of the output items; afterwards the response has its status. Raises RequestError as the engine."""
        try:
            async for piece in pieces:
                for event in run.output.add(piece) if piece is not None else ():
                    yield event
            is_complete = final_finish_reason(run.chat.answers[0]) != "length"
            status: ResponseStatus = "completed" if is_complete else "incomplete"
        except RequestError as e:
            if not (run.is_cancelled and isinstance(e, EngineError)):
                raise in_terms_of_response(e) from e
            status = "cancelled"
        for event in run.output.close("completed" if status == "completed" else "incomplete"):
            yield event
        run.end(status)
        run.response.harmony_malformed = run.chat.answers[0].is_malformed

    @contextlib.asynccontextmanager
    async def _recorded(self, run: _Run) -> AsyncIterator[None]:
        """Stores the response at its beginning and keeps its lease, if it is to be stored.

        A response that is still being answered at the end, because its client has left, is stored as cancelled; one
        whose engine failed as failed.
        """
        if not run.response.store:
            yield
            return
        store = self._stored.store
        begin = store.database.run(store.begin, run.owner, run.response.model_dump(), run.history, run.items)
        beginning = asyncio.create_task(begin)
        try:
            # Shielded: if the client leaves meanwhile, the response is stored all the same, and then has to be ended.
            await asyncio.shield(beginning)
            with self._stored.leases.keeping(run.response.id, lambda: self._abort(run)):
                yield
        except StoreUnavailableError:
            raise
        except RequestError as e:
            run.end("failed")
            run.response.error = response_error(e)
            await self._finish(run)
            raise
        finally:
            if run.response.status == "in_progress":
                run.end("cancelled")
                # Not awaited: this task may itself have been cancelled, and then cannot wait.
                _in_background(_finish_after(beginning, store, run.owner, run.response.model_dump()))

    async def _finish(self, run: _Run) -> None:
        if run.response.store:
            store = self._stored.store
            await store.database.run(store.finish, run.owner, run.response.model_dump())

    async def _abort(self, run: _Run) -> None:
        """Aborts the response in the engine, because it was cancelled or deleted."""
        run.is_cancelled = True
        for request in run.chat.engine_requests:
            await self._model.engine.abort(request.request_id)


_BACKGROUND: set[asyncio.Task[None]] = set()
"""Tasks that nobody waits for; the event loop itself keeps no reference to a task."""


def _in_background(work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work)
    _BACKGROUND.add(task)
    task.add_done_callback(_BACKGROUND.discard)


async def _finish_after(beginning: asyncio.Task[None], store: ResponseStore, owner: str, response: Item) -> None:
    """Ends a stored response once it has begun. Where the store does not answer, the end of the lease ends it."""
    with contextlib.suppress(RequestError):
        await beginning
        await store.database.run(store.finish, owner, response)


def _new_items(items: Sequence[InputItem], history: Sequence[StoredItem]) -> list[Item]:
    """The request's items as they are stored. Ids are unique in a response: a page of its input begins after one."""
    used = {item.content["id"] for item in history}
    stored = []
    for item in items:
        fields = item_fields(item)
        if fields["id"] in used:
            fields["id"] = new_item_id(item)
        used.add(fields["id"])
        stored.append(fields)
    return stored


async def _chain(first: Event, rest: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    yield first
    async for event in rest:
        yield event
