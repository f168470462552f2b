"""A scripted endpoint with OpenAI's API over HTTP, for the ui tests and for a look at the chat page.

`python -m tests.ui.scripted_endpoint --port 8000` serves it until Ctrl-C.
The last word of a question selects the script; the answer to any other word repeats the question.
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

from ui.listening import open_socket

ERRORS = {
    "refuse": (400, "messages: 9000 tokens do not fit the model's 4096."),
    "missing": (404, "The model 'nobody' does not exist."),
    "busy": (429, "16 requests are waiting; the limit is 16."),
    "loading": (503, "The model is still loading."),
}
ANSWER = """Three things matter:

1. **Tokens**: the same in training and serving.
2. A *proved* checkpoint.
3. Code stays readable:

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

| step | seconds |
|---|---|
| load | 1.2 |
| answer | 3.4 |
"""
REASONING = "The user wants an overview. I should name the three pillars, show a code sample and keep it short. "


@dataclass
class ScriptedEndpoint:
    """What the endpoint serves, the requests that it received, and whether a client closed a stream early."""

    models: list[str] = field(default_factory=lambda: ["smol-oss-135m"])
    delay_s: float = 0.0
    requests: list[dict[str, Any]] = field(default_factory=list)
    closed_early: threading.Event = field(default_factory=threading.Event)
    base_url: str = ""

    def build_app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/models")
        async def list_models() -> dict[str, Any]:
            return {"object": "list", "data": [{"id": name, "object": "model"} for name in self.models]}

        @app.get("/page/models")
        async def not_a_listing() -> Response:
            return PlainTextResponse("<html>a web page</html>", media_type="text/html")

        @app.post("/v1/chat/completions")
        async def complete(request: Request) -> Response:
            body = await request.json()
            self.requests.append(body)
            script = body["messages"][-1]["content"].split()[-1]
            if script in ERRORS:
                status, message = ERRORS[script]
                return JSONResponse({"error": {"message": message, "type": "scripted"}}, status)
            return StreamingResponse(self._stream(script, body), media_type="text/event-stream")

        return app

    async def _stream(self, script: str, body: dict[str, Any]) -> AsyncIterator[str]:
        try:
            for delta in _deltas(script, body):
                await asyncio.sleep(self.delay_s)
                yield _line({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
                if script == "forever":
                    await asyncio.sleep(0.01)
            if script == "fail":
                yield _line({"error": {"message": "The engine ran out of memory.", "type": "server_error"}})
                return
            if script == "crash":
                raise ConnectionResetError("scripted: the server breaks the connection")
            if script == "unfinished":
                return
            reason = "length" if script == "long" else "stop"
            yield _line({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})
            usage = {"prompt_tokens": 12, "completion_tokens": 40, "total_tokens": 52}
            yield _line({"choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.closed_early.set()
            raise


def _deltas(script: str, body: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield {"role": "assistant", "content": ""}
    if script == "forever":
        while True:
            yield {"content": "and so on "}
    if script == "overview":
        yield from ({"reasoning_content": word + " "} for word in REASONING.split())
        yield from ({"content": piece} for piece in ANSWER.replace(" ", " \x00").split("\x00"))
    elif script == "silent":
        yield {"reasoning_content": "Nothing to say."}
    else:
        if body.get("reasoning_effort") != "low":
            yield {"reasoning_content": "Let me think."}
        yield from ({"content": piece} for piece in ("You ", "said: ", body["messages"][-1]["content"]))


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
    endpoint = ScriptedEndpoint(delay_s=args.delay_s, **({"models": args.model} if args.model else {}))
    uvicorn.run(endpoint.build_app(), port=args.port, log_level="warning")


if __name__ == "__main__":
    main()
