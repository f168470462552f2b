"""What every client's script is asked, and how it reports: one JSON object on the last line of its output.

The script gets the server in the environment: BASE_URL (with /v1), API_KEY, and ROUTE, `chat` or `responses`. The model
is `tiny`; it does what its prompt says (tests/clients/prompted_engine.py).
"""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

import pydantic

BASE_URL = os.environ["BASE_URL"]
API_KEY = os.environ["API_KEY"]
USES_RESPONSES = os.environ["ROUTE"] == "responses"
MODEL = "tiny"

SAY_HELLO = 'Say "Hello."'
SAY_SUNNY = 'Say "Sunny in Oslo."'
CALL_WEATHER = 'Call weather with {"city": "Oslo"}.'
FILL_IN = 'Fill in {"sunny": true, "wind": 3}.'


class Verdict(pydantic.BaseModel):
    """A verdict on the weather."""

    sunny: bool
    wind: int = pydantic.Field(ge=0, le=9)


def weather(city: str) -> str:
    """Weather of a city."""
    return f"sunny, 21 degrees in {city}"


def report(
    *,
    chat: Callable[[], list[str]] | None = None,
    stream: Callable[[], list[str]] | None = None,
    tools: Callable[[], list[str]] | None = None,
    structured: Callable[[], list[dict[str, Any]]] | None = None,
) -> None:
    """Tries each ability and prints what it gave, or its error. None: the client does not offer it.

    chat: the answers to SAY_HELLO and, with that turn as history, to SAY_SUNNY. stream: the pieces of the answer to
    SAY_SUNNY. tools: the last answer to CALL_WEATHER, once per way of asking. structured: the parsed answer to FILL_IN,
    once per way of asking.
    """
    given = {"chat": chat, "stream": stream, "tools": tools, "structured": structured}
    outcome: dict[str, Any] = {}
    for name, ability in given.items():
        try:
            outcome[name] = None if ability is None else ability()
        except Exception:  # noqa: BLE001 - the report holds it, and the test shows it
            outcome[name] = {"error": traceback.format_exc()}
    print(json.dumps(outcome), flush=True)
