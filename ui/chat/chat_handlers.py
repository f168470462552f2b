"""What happens on the Chat page's events."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import gradio as gr
from pydantic import ValidationError

from tuneyard.core.errors import TuneyardError
from ui.chat.answer_settings import AnswerSettings, read_settings
from ui.chat.components import ChatComponents
from ui.chat.conversations.conversation import Conversation, Node
from ui.chat.conversations.messages import request_messages
from ui.chat.display import display_messages
from ui.chat.live_answers import LiveAnswers
from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_request import ChatRequest
from ui.endpoints.model_labels import model_choices, problem_sentences
from ui.endpoints.served_models import ServedModel
from ui.endpoints.visitor import Visitor, VisitorOf

Values = dict[Any, Any]
"""Values by component, as Gradio passes them to a handler and takes them back."""

SAVE_INTERVAL_S = 1.0
"""Seconds between two times that the browser keeps a growing answer: a reload loses no more."""
NO_MODEL = "No model is selected. Select one at the top; if none is listed, deploy one and refresh the list."


class UnreadableConversationError(TuneyardError):
    """The browser sent a conversation that is none."""


class ChatHandlers:
    """Handlers of the page's events. What they know about a visitor is which conversation a session shows."""

    def __init__(self, client: ChatClient, on: ChatComponents, visitor_of: VisitorOf, system_prompt: str) -> None:
        self._client = client
        self.on = on
        self._visitor_of = visitor_of
        self._system_prompt = system_prompt
        self._answers = LiveAnswers(client)
        self._shown: dict[str, str] = {}
        """Ids of the conversations that sessions show: an answer of another one is kept and not drawn."""
        self._unfollowed: dict[str, list[str]] = {}
        """Ids of conversations whose answers a session started or opened, and does not follow yet."""

    async def list_models(self, values: Values, request: gr.Request) -> Values:
        """Updates the dropdown with the models that are served now.

        Keeps a choice that is still served; without one, selects the first model of the first endpoint. A chosen model
        that is gone is reported and not replaced.
        """
        listing = await self._client.models(self._visitor_of(request).key)
        keys = [model.key for model in listing.models]
        kept = values.get(self.on.kept_model)
        before = values[self.on.model] or (kept if kept in keys else None) or (keys[0] if keys else None)
        chosen = before if before in keys else None
        problems = list(problem_sentences(listing))
        if keys and before and before != chosen:
            problems.append(f"{ServedModel.from_key(before).model_id} is no longer served. Choose another model.")
        return {
            self.on.model: gr.update(choices=model_choices(listing), value=chosen),
            self.on.problem: self._problem("\n\n".join(problems)),
        }

    async def ask(self, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Adds the question, in place of the one that is edited if there is one, and streams the answer."""
        async with aclosing(self._ask(values[self.on.question], values, request)) as updates:
            async for update in updates:
                yield update

    async def ask_example(
        self, values: Values, picked: gr.SelectData, request: gr.Request
    ) -> AsyncGenerator[Values, None]:
        """Asks the clicked example question."""
        async with aclosing(self._ask(picked.value["text"], values, request)) as updates:
            async for update in updates:
                yield update

    async def open(self, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Shows another conversation, and follows its answer if one is running."""
        try:
            conversation = self._conversation(values, self._visitor_of(request))
        except UnreadableConversationError as e:
            yield {self.on.problem: self._problem(str(e)), self.on.chat: []}
            return
        prompt = conversation.system_prompt if conversation.nodes else self._system_prompt
        self._shown[str(request.session_hash)] = conversation.id
        self._follow_later(conversation, request)
        yield {
            **self._view(conversation),
            self.on.problem: self._problem(""),
            self.on.panel.system_prompt: prompt,
        }

    async def follow(self, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Draws an answer that was started or opened before, while it grows; has the browser keep it now and then.

        Apart from the other handlers because Gradio makes each output that an update leaves out anew, at each update.
        """
        yield {self.on.chat: gr.skip()}  # Gradio empties the outputs of a handler that yields nothing
        waiting = self._unfollowed.get(str(request.session_hash))
        if waiting:
            async with aclosing(self._follow(waiting.pop(0), request)) as updates:
                async for update in updates:
                    yield update

    async def settle(self, request: gr.Request) -> Values:
        """Shows the button that sends after an answer. Never the one that stops: a late update would let it stand."""
        shown = self._shown.get(str(request.session_hash), "")
        live = self._answers.find(self._visitor_of(request).owner, shown)
        if live is not None and live.node.state == "live":
            return {self.on.question: gr.skip()}
        return self._buttons(is_live=False)

    async def act(self, values: Values, event: gr.EventData, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Does what a person asked for at a message: another answer, an alternative, a correction, a tool's result."""
        what: dict[str, Any] = event._data
        visitor = self._visitor_of(request)
        if what["act"] == "stop":
            self._answers.stop(visitor.owner, what["conversation"])
            yield {self.on.chat: gr.skip()}
            return
        try:
            conversation, settings = self._conversation(values, visitor), read_settings(self.on.panel.typed(values))
        except TuneyardError as e:
            yield {self.on.problem: self._problem(str(e))}
            return
        if self._apply(what, conversation):
            async with aclosing(self._answer(conversation, settings, values, request)) as updates:
                async for update in updates:
                    yield update
        else:
            yield self._view(conversation)

    def _apply(self, what: dict[str, Any], conversation: Conversation) -> bool:
        """Changes the conversation. True if the model is to answer now."""
        node = conversation.find(what["node"])
        if node is None:
            return False
        match what["act"]:
            case "show":
                conversation.show(node)
            case "retry":
                conversation.leaf = node.parent
                return True
            case "correct":
                corrected = Node(role="assistant", text=what["text"], model_id=node.model_id, edited=True)
                conversation.add(corrected, node.parent)
            case "result":
                conversation.add(Node(role="tool", text=what["text"], call_id=what["call"]), conversation.leaf)
                return not conversation.open_calls()
        return False

    async def stop(self, values: Values, request: gr.Request) -> None:
        """Stops the answer of the conversation that is shown, and keeps the text so far."""
        conversation = (values[self.on.book] or {}).get("conversation") or {}
        self._answers.stop(self._visitor_of(request).owner, str(conversation.get("id")))

    async def leave(self, request: gr.Request) -> None:
        """The page was closed or reloaded."""
        self._shown.pop(str(request.session_hash), None)
        self._unfollowed.pop(str(request.session_hash), None)
        self._answers.leave(str(request.session_hash))

    async def _ask(self, question: str, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        if not question.strip():
            yield {self.on.question: ""}
            return
        try:
            settings = read_settings(self.on.panel.typed(values))
            conversation = self._conversation(values, self._visitor_of(request))
        except TuneyardError as e:
            yield {self.on.problem: self._problem(str(e))}
            return
        edited = conversation.find((values[self.on.book] or {}).get("editing"))
        conversation.system_prompt = values[self.on.panel.system_prompt] or ""
        conversation.add(Node(role="user", text=question), edited.parent if edited else conversation.leaf)
        yield {self.on.question: ""}
        async with aclosing(self._answer(conversation, settings, values, request)) as updates:
            async for update in updates:
                yield update

    async def _answer(
        self, conversation: Conversation, settings: AnswerSettings, values: Values, request: gr.Request
    ) -> AsyncGenerator[Values, None]:
        """Asks the model for the next message of the conversation, and shows it while it streams."""
        visitor = self._visitor_of(request)
        self._shown[str(request.session_hash)] = conversation.id
        messages = request_messages(conversation)
        node = conversation.add(Node(role="assistant", state="live"), conversation.leaf)
        yield {**self._view(conversation), self.on.problem: self._problem("")}
        if not values[self.on.model]:
            listed = await self.list_models(values, request)  # a model may have been deployed after the page was loaded
            values = values | {self.on.model: listed[self.on.model]["value"]}
            yield listed
        if values[self.on.model]:
            model = self._model(values[self.on.model])
            node.model_id = model.model_id
            conversation.tools = list(settings.tools)
            chat_request = ChatRequest(model, messages, **settings._asdict())
            self._answers.start(visitor.owner, conversation, node, chat_request, visitor.key)
            self._follow_later(conversation, request)
        else:
            node.state, node.error = "failed", NO_MODEL
            yield self._view(conversation)

    def _follow_later(self, conversation: Conversation, request: gr.Request) -> None:
        self._unfollowed.setdefault(str(request.session_hash), []).append(conversation.id)

    async def _follow(self, conversation_id: str, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Updates while the conversation's answer runs; none if this session follows it already."""
        owner, session = self._visitor_of(request).owner, str(request.session_hash)
        live = self._answers.find(owner, conversation_id)
        if live is None or session in live.watchers:
            return
        conversation = live.conversation
        saved_at = time.monotonic()
        async with aclosing(self._answers.watch(owner, conversation.id, session)) as changes:
            async for answer in changes:
                updates: Values = {}
                is_over = answer.node.state != "live"
                if is_over or time.monotonic() - saved_at >= SAVE_INTERVAL_S:
                    saved_at = time.monotonic()
                    updates[self.on.book] = self._envelope(conversation, is_asked=False)
                if self._shown.get(session) == conversation.id:
                    updates[self.on.chat] = display_messages(conversation, answer.waited_s)
                if updates:
                    yield updates

    def _conversation(self, values: Values, visitor: Visitor) -> Conversation:
        """The conversation that the browser shows. While an answer of it runs, the server's copy is the newer one."""
        try:
            conversation = Conversation.from_json((values[self.on.book] or {}).get("conversation"))
        except ValidationError as e:
            raise UnreadableConversationError(
                "This conversation cannot be read; the browser's copy of it is damaged. Start a new chat."
            ) from e
        live = self._answers.find(visitor.owner, conversation.id)
        if live is not None:
            live.conversation.title, live.conversation.is_titled = conversation.title, conversation.is_titled
            return live.conversation
        for node in conversation.live_nodes():
            node.state = "stopped"
        return conversation

    def _model(self, chosen: str) -> ServedModel:
        """The model chosen in the list; a name typed by hand is one of the first endpoint's, which may list fewer."""
        return ServedModel.from_key(chosen) if " " in chosen else ServedModel(chosen, self._client.base_urls[0])

    def _view(self, conversation: Conversation) -> Values:
        """Draws a conversation, has the browser keep it, and sets the composer."""
        return {
            self.on.chat: display_messages(conversation),
            self.on.book: self._envelope(conversation, is_asked=True),
            **self._buttons(is_live=any(True for _ in conversation.live_nodes())),
        }

    def _buttons(self, *, is_live: bool) -> Values:
        return {self.on.question: gr.update(submit_btn=not is_live, stop_btn=is_live)}

    def _envelope(self, conversation: Conversation, *, is_asked: bool) -> dict[str, Any]:
        return {"conversation": conversation.to_json(), "is_asked": is_asked}

    def _problem(self, text: str) -> Any:
        return gr.update(value=text, visible=bool(text))
