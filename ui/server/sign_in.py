"""Signing in with an API key: the form, the cookie, and the gate before everything else."""

from __future__ import annotations

import asyncio
from html import escape
from urllib.parse import parse_qs

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from ui.endpoints.chat_client import ChatClient
from ui.endpoints.chat_errors import ChatError
from ui.endpoints.run_client import RunClient
from ui.server.sessions import COOKIE, Sessions
from ui.theme.frame import MARK

PATH = "/sign-in"
OPEN_PATHS = (PATH, "/page/", "/favicon.ico")
"""Paths that need no session: the form, and what it looks like."""
FAILURE_DELAY_S = 1.0
"""Seconds that a wrong key costs, so that nobody tries many."""
MAX_FORM_BYTES = 8192

FORM = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · {title}</title>
{head}
</head>
<body class="ty-sign-in">
<main>
<div class="ty-brand">{mark}<h1>{title}</h1></div>
<form method="post" action="sign-in">
<label for="key">API key</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus
 aria-describedby="key-note">
{problem}
<p id="key-note">The key stays in this page's server until you sign out.
It is not in the address and not in the browser.</p>
<button class="ty-button ty-primary">Sign in</button>
</form>
</main>
</body>
</html>
"""


class SignInGate:
    """ASGI middleware that lets nobody without a session further than the form."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"].startswith(OPEN_PATHS):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if self._sessions.find(connection.cookies.get(COOKIE)) is not None:
            await self._app(scope, receive, send)
            return
        is_page = scope.get("method") == "GET" and "text/html" in connection.headers.get("accept", "")
        refusal: Response = RedirectResponse(PATH, status_code=303) if is_page else _not_signed_in()
        await refusal(scope, receive, send)


def _not_signed_in() -> JSONResponse:
    return JSONResponse({"error": "You are not signed in, or the page was restarted. Reload it."}, status_code=401)


def add_sign_in(app: FastAPI, sessions: Sessions, client: ChatClient, title: str, head: str) -> None:
    """Adds the routes: GET and POST /sign-in, POST /sign-out. `head` is HTML for the form's head."""

    def form(problem: str = "", status: int = 200) -> HTMLResponse:
        shown = f'<p class="ty-error" role="alert">{escape(problem)}</p>' if problem else ""
        page = FORM.format(title=escape(title), head=head, mark=MARK, problem=shown)
        return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})

    @app.get(PATH)
    async def show_form() -> HTMLResponse:
        return form()

    @app.post(PATH)
    async def sign_in(request: Request) -> Response:
        body = await request.body() if int(request.headers.get("content-length") or 0) <= MAX_FORM_BYTES else b""
        key = parse_qs(body.decode("utf-8", "replace")).get("key", [""])[0].strip()
        if not key or not key.isascii() or not key.isprintable():
            return form("Paste the key as you were given it, such as ty-….", 400)
        if problem := await _find_problem(client, key):
            await asyncio.sleep(FAILURE_DELAY_S)
            return form(problem, 401)
        answer = RedirectResponse("./", status_code=303)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(COOKIE, sessions.create(key), httponly=True, samesite="lax", secure=is_secure)
        return answer

    @app.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        sessions.end(request.cookies.get(COOKIE))
        answer = RedirectResponse(PATH, status_code=303)
        answer.delete_cookie(COOKIE)
        return answer


async def _find_problem(client: ChatClient, key: str) -> str:
    """Why no endpoint takes the key, as a person's or as the administrators'; empty if one does."""
    results = await asyncio.gather(*(client.models_of(url, key) for url in client.base_urls), return_exceptions=True)
    problems = [result for result in results if isinstance(result, BaseException)]
    for problem in problems:
        if not isinstance(problem, ChatError):
            raise problem
    if len(problems) < len(results) or await RunClient(client).is_admin(key):
        return ""
    return str(problems[0])
