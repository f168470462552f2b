"""Fixtures of the chat page's tests: a scripted endpoint and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.ui.scripted_endpoint import ScriptedEndpoint, serve_in_thread
from ui.endpoints.chat_client import ChatClient


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    """A running scripted endpoint."""
    scripted = ScriptedEndpoint()
    with serve_in_thread(scripted.build_app()) as root_url:
        scripted.base_url = f"{root_url}/v1"
        yield scripted


@pytest.fixture
async def client(endpoint: ScriptedEndpoint) -> AsyncIterator[ChatClient]:
    """A client of the scripted endpoint."""
    chat_client = ChatClient([endpoint.base_url])
    yield chat_client
    await chat_client.aclose()
