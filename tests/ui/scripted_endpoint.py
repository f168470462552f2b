"""A scripted endpoint with OpenAI's API over HTTP, for the ui tests and for a look at the chat page.

`python -m tests.ui.scripted_endpoint --port 8000` serves it until Ctrl-C.
The last word of a question selects the script (scripted_answers.py); the answer to any other word repeats the question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from tests.ui.scripted_answers import deltas, script_of
from ui.server.listening import open_socket

ERRORS = {
    "refuse": (400, "messages: 9000 tokens do not fit the model's 4096."),
    "missing": (404, "The model 'nobody' does not exist."),
    "busy": (429, "16 requests are waiting; the limit is 16."),
    "loading": (503, "The model is still loading."),
}
PAUSES_S = {"late": 2.5, "slow": 0.03, "forever": 0.01, "endless": 0.02}
"""Seconds before the first delta (late) or before each one."""
LINEAGE = {
    "X-Tuneyard-Model-Version": "brindle/3",
    "X-Tuneyard-Run": "brindle-20261101",
    "X-Tuneyard-Dataset": "5f2c9a7be01d4c33",
}


@dataclass
class ScriptedEndpoint:
    """What the endpoint serves, the requests that it received, and whether a client closed a stream early."""

    models: list[str] = field(default_factory=lambda: ["smol-oss-135m"])
    delay_s: float = 0.0
    keys: frozenset[str] = frozenset()
    """API keys that are taken; none: every one."""
    lineage: dict[str, str] = field(default_factory=dict)
    """Headers of each answer."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    used_keys: list[str] = field(default_factory=list)
    closed_early: threading.Event = field(default_factory=threading.Event)
    held: threading.Event | None = None
    """The answer `late` waits for it; None: it waits a while."""
    most_streams: int = 0
    """Most answers that streamed at once."""
    _streams: int = 0
    base_url: str = ""

    def build_app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        @app.get("/base/v1/models")
        async def list_models(request: Request) -> Response:
            if refusal := self._refuse_key(request):
                return refusal
            return JSONResponse({"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]})

        @app.get("/page/models")
        async def not_a_listing() -> Response:
            return PlainTextResponse("<html>a web page</html>", media_type="text/html")

        @app.post("/v1/chat/completions")
        @app.post("/base/v1/chat/completions")
        async def complete(request: Request) -> Response:
            if refusal := self._refuse_key(request):
                return refusal
            body = await request.json()
            self.requests.append(body)
            script = script_of(body)
            if script in ERRORS:
                status, message = ERRORS[script]
                return JSONResponse({"error": {"message": message, "type": "scripted"}}, status)
            stream = self._stream(script, body)
            return StreamingResponse(stream, media_type="text/event-stream", headers=self.lineage)

        return app

    def _refuse_key(self, request: Request) -> Response | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.used_keys.append(key)
        if not self.keys or key in self.keys:
            return None
        return JSONResponse({"error": {"message": "This API key is unknown.", "type": "scripted"}}, 401)

    async def _wait_late(self) -> None:
        if self.held is None:
            await asyncio.sleep(PAUSES_S["late"])
        while self.held is not None and not self.held.is_set():
            await asyncio.sleep(0.02)

    async def _stream(self, script: str, body: dict[str, Any]) -> AsyncIterator[str]:
        self._streams += 1
        self.most_streams = max(self.most_streams, self._streams)
        try:
            if script == "late":
                await self._wait_late()
            for delta in deltas(script, body):
                await asyncio.sleep(max(self.delay_s, PAUSES_S.get(script, 0) if script != "late" else 0))
                yield _line({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
            if script == "fail":
                yield _line({"error": {"message": "The engine ran out of memory.", "type": "server_error"}})
                return
            if script == "crash":
                raise ConnectionResetError("scripted: the server breaks the connection")
            if script == "unfinished":
                return
            reason = {"long": "length", "weather": "tool_calls"}.get(script, "stop")
            yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            usage = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}
            yield _line({"choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.closed_early.set()
            raise
        finally:
            self._streams -= 1


def _line(event: dict[str, Any]) -> str:
    frame = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
    return f"data: {json.dumps(event if 'error' in event else frame | event)}\n\n"


@contextmanager
def serve_in_thread(app: Any) -> Iterator[str]:
    """Runs an ASGI app on a free port in a background thread. Yields its root URL."""
    listener = open_socket("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", action="append", help="a model id to list; repeatable")
    parser.add_argument("--delay-s", type=float, default=0.04, help="seconds before each delta (default: %(default)s)")
    args = parser.parse_args()
    models = {"models": args.model} if args.model else {}
    endpoint = ScriptedEndpoint(delay_s=args.delay_s, lineage=LINEAGE, **models)
    uvicorn.run(endpoint.build_app(), port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
