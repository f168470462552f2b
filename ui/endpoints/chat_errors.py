"""Error messages for people when an endpoint fails: what happened, where, and what to do."""

from __future__ import annotations

import openai

from tuneyard.core.errors import TuneyardError

START_HINT = "Start it with `make demo` or `python -m serve_apps.deploy ...`."

ADVICE = {
    400: "The model refused the request",
    401: "The endpoint needs an API key (set OPENAI_API_KEY and restart the page)",
    403: "The API key may not do this",
    404: "Not found (refresh the model list)",
    422: "The model refused the request",
    429: "The model is busy: wait a moment, then retry",
    503: "The model is not ready: wait a moment, then retry",
}


class ChatError(TuneyardError):
    """An endpoint cannot be reached, refused a request, or ended an answer early."""


def explain_before_answer(error: openai.APIError, base_url: str, *, is_own_key: bool = False) -> ChatError:
    """The error for a request that got no answer. `is_own_key` if it was sent with the person's key, not the page's."""
    match error:
        case openai.AuthenticationError() if is_own_key:
            return ChatError(f"{base_url} does not accept your API key: {_server_message(error)}")
        case openai.APIStatusError():
            return ChatError(_explain_status(error, base_url))
        case openai.APITimeoutError():
            return ChatError(f"{base_url} accepted the request but did not answer in time. It may be overloaded.")
        case _:
            return ChatError(f"Nothing answers at {base_url}: is the model deployed? {START_HINT}")


def explain_during_answer(error: Exception | None, base_url: str) -> ChatError:
    """The error for an answer that had started. `error` is None when the stream ended without a finish reason."""
    kept = "The text so far is kept; Retry asks again."
    if isinstance(error, openai.APIError) and not isinstance(error, openai.APIConnectionError):
        return ChatError(f"The answer ended early: {_server_message(error)} {kept}")
    if isinstance(error, openai.APITimeoutError):
        return ChatError(f"{base_url} stopped sending in the middle of the answer. {kept}")
    return ChatError(f"The connection to {base_url} broke in the middle of the answer. {kept}")


def not_an_endpoint(base_url: str) -> ChatError:
    """The error for a server whose answer is not a model list."""
    return ChatError(f"{base_url}/models does not list models in OpenAI's form. A base URL usually ends in /v1.")


def _explain_status(error: openai.APIStatusError, base_url: str) -> str:
    what = ADVICE.get(error.status_code, "The server failed")
    hint = "" if base_url.endswith("/v1") or error.status_code != 404 else " A base URL usually ends in /v1."
    return f"{what}: {_server_message(error)} (HTTP {error.status_code} from {base_url}){hint}"


def _server_message(error: openai.APIError) -> str:
    """The server's message, without the `Error code: ...` that the client puts around it."""
    body = error.body
    if isinstance(body, dict):
        message = body.get("message") or body.get("detail")
        if isinstance(message, str) and message:
            return message
    if isinstance(body, str) and body.strip() and not body.lstrip().startswith("<"):
        return body.strip()[:300]
    if isinstance(error, openai.APIStatusError):
        return "it gave no reason"
    return error.message
