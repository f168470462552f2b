"""The page's components and event handlers. The conversation itself is in transcript.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import gradio as gr

from ui.chat_client import ChatClient, ChatRequest, ModelListing, ServedModel
from ui.live_answers import LiveAnswers
from ui.transcript import Turn, api_messages, display_messages, escape_tags

Values = dict[Any, Any]
"""Values by component, as Gradio passes them to a handler and takes them back."""

REASONING_EFFORTS = (("as trained", ""), ("low", "low"), ("medium", "medium"), ("high", "high"))
"""Labels and values. `as trained` sends no effort: the server uses the one in the checkpoint's manifest."""
LATEX_DELIMITERS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]


class ChatPage:
    """A Gradio Blocks app with its handlers; a server mounts `blocks`.

    Handlers take `{component: value}` and return `{component: update}`, so tests call them without a browser.
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        title: str,
        system_prompt: str = "",
        examples: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> None:
        self._client = client
        self._answers = LiveAnswers(client)
        with gr.Blocks(title=title, analytics_enabled=False, fill_height=True) as self.blocks:
            self.turns = gr.State([])
            self._lay_out_header(title)
            self._lay_out_chat(examples)
            self._lay_out_settings(system_prompt, temperature)
            self._connect()
        # Gradio's default is one answer at a time for all visitors together.
        self.blocks.queue(default_concurrency_limit=None, api_open=False)

    def _lay_out_header(self, title: str) -> None:
        with gr.Row(elem_id="header"):
            gr.Markdown(f"# {title}", elem_id="title")
            self.model = gr.Dropdown(
                [], label="Model", show_label=False, container=False, elem_id="model", scale=0, min_width=260
            )
            self.refresh = gr.Button("↻", elem_id="refresh", size="md", scale=0, min_width=44)
        self.problem = gr.Markdown(visible=False, elem_id="problem")

    def _lay_out_chat(self, examples: Sequence[str]) -> None:
        self.chat = gr.Chatbot(
            show_label=False, container=False, elem_id="chat", scale=1, height="100%", min_height=240,
            placeholder="Ask a question, or pick one below.", examples=[{"text": text} for text in examples],
            buttons=["copy"], feedback_options=None, latex_delimiters=LATEX_DELIMITERS,
        )  # fmt: skip
        with gr.Row(elem_id="asking"):
            self.question = gr.Textbox(
                placeholder="Ask something (Enter sends)", show_label=False,
                container=False, lines=1, max_lines=8, autofocus=True, submit_btn=True, elem_id="question", scale=1,
            )  # fmt: skip
            self.retry = gr.Button("Retry", size="md", scale=0, min_width=76, interactive=False, elem_id="retry")
            self.clear = gr.Button("Clear", size="md", scale=0, min_width=76, elem_id="clear")

    def _lay_out_settings(self, system_prompt: str, temperature: float) -> None:
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            self.system_prompt = gr.Textbox(system_prompt, label="System prompt", lines=2, max_lines=6)
            with gr.Row():
                self.temperature = gr.Slider(0, 2, temperature, step=0.05, label="Temperature", min_width=300)
                self.top_p = gr.Slider(0.05, 1, 1, step=0.05, label="Top p", min_width=300)
                self.max_tokens = gr.Number(
                    0, label="Max tokens (0: the model's limit)", precision=0, minimum=0, min_width=300
                )
                self.effort = gr.Radio(REASONING_EFFORTS, value="", label="Reasoning effort", min_width=300)

    def _connect(self) -> None:
        settings = {self.system_prompt, self.temperature, self.top_p, self.max_tokens, self.effort}
        given = {self.question, self.turns, self.model, *settings}
        changed = {self.question, self.chat, self.turns, self.retry, self.model, self.problem}
        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        answering = [
            self.question.submit(self.ask, given, changed, **quiet),
            self.chat.example_select(self.ask_example, given, changed, **quiet),
            self.retry.click(self.ask_again, given, changed, **quiet),
        ]
        self.question.stop(self.stop, queue=False, **quiet)
        self.clear.click(self.clear_chat, outputs=changed, cancels=answering, **quiet)
        for trigger in (self.blocks.load, self.refresh.click):
            trigger(self.list_models, {self.model}, {self.model, self.problem}, **quiet)
        self.blocks.unload(self.stop)

    async def list_models(self, values: Values) -> Values:
        """Updates the dropdown with the models that are served now.

        Keeps a choice that is still served; without a choice, selects the first model of the first endpoint. A chosen
        model that is gone is reported and not replaced.
        """
        listing = await self._client.models()
        keys = [model.key for model in listing.models]
        before = values[self.model] or (keys[0] if keys else None)
        chosen = before if before in keys else None
        problems = [escape_tags(sentence) for sentence in problem_sentences(listing)]
        if keys and before and before != chosen:
            problems.append(f"{ServedModel.from_key(before).model_id} is no longer served. Choose another model.")
        problem = "\n\n".join(problems)
        return {
            self.model: gr.update(choices=model_choices(listing), value=chosen),
            self.problem: gr.update(value=problem, visible=bool(problem)),
        }

    async def ask(self, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Shows the question at once, then the answer while it streams."""
        question = values[self.question]
        if question.strip():
            async with aclosing(self._answer(question, values, request)) as updates:
                async for update in updates:
                    yield update
        else:
            yield {self.question: ""}

    async def ask_example(
        self, values: Values, picked: gr.SelectData, request: gr.Request
    ) -> AsyncGenerator[Values, None]:
        """Asks the clicked example question."""
        async with aclosing(self._answer(picked.value["text"], values, request)) as updates:
            async for update in updates:
                yield update

    async def ask_again(self, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        """Replaces the last turn: asks its question again with the current settings."""
        *earlier, last = values[self.turns]
        async with aclosing(self._answer(last.question, values | {self.turns: earlier}, request)) as updates:
            async for update in updates:
                yield update

    async def _answer(self, question: str, values: Values, request: gr.Request) -> AsyncGenerator[Values, None]:
        turn = Turn(question)
        turns = [*values[self.turns], turn]
        # Saved at once: a turn that is only displayed would be lost if this handler is cancelled.
        yield {
            **self._shown(turns),
            self.turns: turns,
            self.question: gr.update(value="", submit_btn=False, stop_btn=True),
            self.retry: gr.update(interactive=False),
        }
        if not values[self.model]:
            listed = await self.list_models(values)  # a model may have been deployed after the page was loaded
            values = values | {self.model: listed[self.model]["value"]}
            yield listed
        if values[self.model]:
            chat_request = self._chat_request(question, values)
            turn.model_id = chat_request.model.model_id
            async with aclosing(self._answers.run(str(request.session_hash), turn, chat_request)) as changes:
                async for _ in changes:
                    yield self._shown(turns)
        else:
            turn.live = False
            turn.error = "No model is selected. Select one above; if none is listed, deploy one and press ↻."
        yield {**self._shown(turns), **self._idle(turns)}

    def _chat_request(self, question: str, values: Values) -> ChatRequest:
        return ChatRequest(
            model=ServedModel.from_key(values[self.model]),
            messages=api_messages(values[self.turns], question, values[self.system_prompt]),
            temperature=values[self.temperature],
            top_p=values[self.top_p],
            max_tokens=values[self.max_tokens] or None,  # gradio sends 0 for an empty box too
            reasoning_effort=values[self.effort] or None,
        )

    async def stop(self, request: gr.Request) -> None:
        """Stops the session's answer and keeps the text so far. Also runs when the tab is closed."""
        self._answers.stop(str(request.session_hash))

    async def clear_chat(self) -> Values:
        """Empties the conversation. Gradio has already cancelled a running answer (see `cancels` in _connect)."""
        return {self.turns: [], **self._shown([]), **self._idle([])}

    def _shown(self, turns: Sequence[Turn]) -> Values:
        return {self.chat: display_messages(turns)}

    def _idle(self, turns: Sequence[Turn]) -> Values:
        return {
            self.question: gr.update(submit_btn=True, stop_btn=False),
            self.retry: gr.update(interactive=bool(turns)),
        }


def model_choices(listing: ModelListing) -> list[tuple[str, str]]:
    """Labels and values of the dropdown. A label names the endpoint if two endpoints serve the same model id."""
    ids = [model.model_id for model in listing.models]
    return [
        (m.model_id if ids.count(m.model_id) == 1 else f"{m.model_id} ({urlsplit(m.base_url).netloc})", m.key)
        for m in listing.models
    ]


def problem_sentences(listing: ModelListing) -> tuple[str, ...]:
    """The endpoints' problems as sentences for people; empty if there are none."""
    if listing.models or listing.problems:
        return listing.problems
    return ("The endpoint answers, but serves no model. Deploy one, then press ↻.",)
