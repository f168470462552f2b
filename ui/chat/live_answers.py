"""Running answers, one per conversation: started, watched at a steady pace, stopped.

An answer runs on while its page is reloaded or shows another conversation: watchers come and go. An answer that nobody
watches is stopped after a while, so that the server of the model does not work for a closed tab.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from tuneyard.core.errors import TuneyardError
from ui.chat.answer_writer import AnswerWriter
from ui.chat.conversations.conversation import Conversation, Node
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_request import ChatRequest

REDRAW_INTERVAL_S = 0.08
"""Seconds between two redraws, whatever the token rate."""
WAITING_INTERVAL_S = 1.0
"""Seconds between two redraws while no text comes: the page shows how long it has waited."""
UNWATCHED_S = 20.0
"""Seconds that an answer runs on without a page that shows it: a reload takes a few."""
KEPT_S = 300.0
"""Seconds that an answer which ended unwatched waits to be fetched."""


@dataclass
class LiveAnswer:
    """An answer that grows in a conversation."""

    conversation: Conversation
    writer: AnswerWriter
    task: asyncio.Task[None]
    watchers: set[str] = field(default_factory=set)
    """Sessions whose page shows it."""
    expiry: asyncio.TimerHandle | None = None
    """Ends it, unless a page shows it again."""

    @property
    def node(self) -> Node:
        return self.writer.node

    @property
    def waited_s(self) -> float:
        """Seconds since the request was sent."""
        return time.monotonic() - self.writer.started

    def end(self) -> None:
        """Marks the node of an ended task as complete; does nothing the second time."""
        if self.node.state == "live":
            _end(self.writer, self.task)


class LiveAnswers:
    """Fills answers with the client's events. Use it on one event loop only."""

    def __init__(self, client: ChatClient, *, unwatched_s: float = UNWATCHED_S, kept_s: float = KEPT_S) -> None:
        self._client = client
        self._unwatched_s = unwatched_s
        self._kept_s = kept_s
        self._answers: dict[tuple[str, str], LiveAnswer] = {}

    def start(self, owner: str, conversation: Conversation, node: Node, request: ChatRequest, key: str | None) -> None:
        """Starts to fill the node. Stops an answer of the same conversation that is still running."""
        self.stop(owner, conversation.id)
        node.state = "live"
        writer = AnswerWriter(node)
        answer = LiveAnswer(conversation, writer, asyncio.create_task(self._fill(writer, request, key)))
        answer.task.add_done_callback(lambda _: answer.end())
        self._answers[owner, conversation.id] = answer
        self._expire_later((owner, conversation.id), answer)

    def find(self, owner: str, conversation_id: str) -> LiveAnswer | None:
        """The conversation's answer that runs, or that ended while nobody watched."""
        return self._answers.get((owner, conversation_id))

    def stop(self, owner: str, conversation_id: str) -> None:
        """Stops the conversation's running answer, if any, and keeps the text so far."""
        if answer := self.find(owner, conversation_id):
            answer.task.cancel()

    async def watch(self, owner: str, conversation_id: str, session: str) -> AsyncGenerator[LiveAnswer, None]:
        """Yields the answer each time it has changed; it is final when the iterator ends."""
        key = owner, conversation_id
        answer = self._answers.get(key)
        if answer is None:
            return
        answer.watchers.add(session)
        if answer.expiry:
            answer.expiry.cancel()
        try:
            async for _ in _ticks(answer):
                yield answer
            answer.end()
            self._forget(key, answer)
            yield answer
        finally:
            self._leave(key, answer, session)

    def leave(self, session: str) -> None:
        """The session's page was closed or reloaded."""
        for key, answer in list(self._answers.items()):
            self._leave(key, answer, session)

    def _leave(self, key: tuple[str, str], answer: LiveAnswer, session: str) -> None:
        if session in answer.watchers:
            answer.watchers.discard(session)
            if not answer.watchers and self._answers.get(key) is answer:
                self._expire_later(key, answer)

    def _expire_later(self, key: tuple[str, str], answer: LiveAnswer) -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            answer.task.cancel()
            answer.expiry = loop.call_later(self._kept_s, self._forget, key, answer)

        answer.expiry = loop.call_later(self._unwatched_s, stop)

    def _forget(self, key: tuple[str, str], answer: LiveAnswer) -> None:
        if self._answers.get(key) is answer:
            del self._answers[key]

    async def _fill(self, writer: AnswerWriter, request: ChatRequest, key: str | None) -> None:
        async for event in self._client.stream(request, key):
            writer.add(event)


async def _ticks(answer: LiveAnswer) -> AsyncGenerator[None, None]:
    """Yields at most once per redraw interval, when the answer has grown or it is time to show the wait."""
    shown, shown_at = -1, 0.0
    while not answer.task.done():
        size, now = answer.writer.size, time.monotonic()
        if size != shown or (size == 0 and now - shown_at >= WAITING_INTERVAL_S):
            shown, shown_at = size, now
            yield
        await asyncio.wait({answer.task}, timeout=REDRAW_INTERVAL_S)


def _end(writer: AnswerWriter, task: asyncio.Task[None]) -> None:
    if task.cancelled():
        writer.end("stopped")
    elif (error := task.exception()) is None:
        writer.end("done")
    elif isinstance(error, TuneyardError):
        writer.end("failed", str(error))
    else:
        logging.getLogger(__name__).error("the answer failed", exc_info=error)
        writer.end("failed", f"The page failed: {type(error).__name__}. Its log has the details; Retry asks again.")
