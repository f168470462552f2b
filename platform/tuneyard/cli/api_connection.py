"""The client of a fine-tuning API, of Tuneyard's or another one, and its errors as users see them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tuneyard.core.errors import ClusterError, ConfigError

if TYPE_CHECKING:
    import openai

KEY_VARIABLES = ("TUNEYARD_API_KEY", "OPENAI_API_KEY")
"""Where the API key comes from; the first one that is set."""


def open_api_client(url: str) -> openai.OpenAI:
    """OpenAI's client for the API at this base URL. Raises ConfigError if `url` is no URL."""
    import openai

    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--api {url}: expected the base URL of an API, like http://127.0.0.1:8000/v1")
    key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "none")
    return openai.OpenAI(base_url=url, api_key=key)


def raise_api_error(error: BaseException | None, url: str) -> None:
    """Raises ClusterError for an error of the client. Does nothing for another one."""
    import openai

    if isinstance(error, openai.APIConnectionError):
        raise ClusterError(f"{url} does not answer: {error}. Is the URL right, with its /v1?") from error
    if isinstance(error, openai.APIStatusError):
        key = f" The key is taken from {' or '.join(KEY_VARIABLES)}." if error.status_code == 401 else ""
        raise ClusterError(f"{url}: {api_message(error)}{key}") from error


def api_message(error: openai.APIStatusError) -> str:
    """What the API says is wrong."""
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or error.message)
