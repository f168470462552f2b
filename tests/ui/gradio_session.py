"""GradioSession: a visitor of the page without a browser, over the HTTP API that Gradio's own program uses."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any, Self

import httpx
from gradio_client.utils import apply_diff


class GradioSession:
    """One tab: the page's config, the value of each component, and the events that a person's acts cause."""

    def __init__(self, http: httpx.AsyncClient, config: dict[str, Any]) -> None:
        self._http = http
        self._config = config
        self._session = secrets.token_hex(8)
        self.values = {part["id"]: part["props"].get("value") for part in config["components"]}

    @classmethod
    async def open(cls, http: httpx.AsyncClient, path: str = "/") -> Self:
        """Opens a page of the server at the client's base URL, and runs what the page runs when it is loaded."""
        page = await http.get(path)
        page.raise_for_status()
        config = page.text.partition("window.gradio_config = ")[2]
        session = cls(http, json.JSONDecoder().raw_decode(config)[0])
        for event in session._config["dependencies"]:
            if [name for _, name in event["targets"]] == ["load"] and event["backend_fn"]:
                await session._run(event)
        return session

    def component(self, elem_id: str) -> int:
        """The id of the component with an element id."""
        return next(part["id"] for part in self._config["components"] if part["props"].get("elem_id") == elem_id)

    def props(self, elem_id: str) -> dict[str, Any]:
        """The component's properties, as they were when the page was loaded."""
        part = self.component(elem_id)
        return dict(next(known["props"] for known in self._config["components"] if known["id"] == part))

    def value(self, elem_id: str) -> Any:
        """The component's value now."""
        return self.values[self.component(elem_id)]

    async def ask(self, question: str) -> None:
        """Sends a question; returns when its answer has ended."""
        self.values[self.component("question")] = question
        await self.trigger("question", "submit")

    async def trigger(self, elem_id: str, name: str) -> None:
        """Causes an event and those that follow it; returns when all have ended."""
        target = [self.component(elem_id), name]
        events = [event for event in self._config["dependencies"] if target in event["targets"]]
        while events:
            event = events.pop(0)
            await self._run(event)
            events += [later for later in self._config["dependencies"] if later["trigger_after"] == event["id"]]

    async def _run(self, event: dict[str, Any]) -> None:
        body = {
            "data": [self.values[part] for part in event["inputs"]],
            "event_data": None,
            "fn_index": event["id"],
            "trigger_id": event["targets"][0][0] if event["targets"] else None,
            "session_hash": self._session,
        }
        joined = await self._http.post("/gradio_api/queue/join", json=body)
        joined.raise_for_status()
        outputs: list[Any] = []
        async for message in self._messages():
            match message:
                case {"msg": "process_generating", "success": True, "output": {"data": data}}:
                    # The first message of a generator holds values, later ones the differences.
                    outputs = (
                        [apply_diff(old, new) for old, new in zip(outputs, data, strict=True)] if outputs else data
                    )
                    self._apply(event, outputs)
                case {"msg": "process_completed", "success": True, "output": {"data": data}}:
                    self._apply(event, data)
                    return
                case {"msg": "process_completed" | "process_generating"}:
                    raise RuntimeError(f"the page failed: {message}")

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        query = {"session_hash": self._session}
        async with self._http.stream("GET", "/gradio_api/queue/data", params=query) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    yield json.loads(line.removeprefix("data: "))

    def _apply(self, event: dict[str, Any], outputs: list[Any]) -> None:
        for part, output in zip(event["outputs"], outputs, strict=False):
            if isinstance(output, dict) and output.get("__type__") == "update":
                if "value" in output:
                    self.values[part] = output["value"]
            else:
                self.values[part] = output
