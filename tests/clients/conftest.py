"""One server for all clients, and the record of what they can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from tests.clients.prompted_engine import PromptedEngine
from tests.clients.request_recorder import RequestRecorder
from tests.clients.results import Results
from tests.integration.served_api import ServedApi
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.storage.sql.location import SqlLocation

IGNORED_TOOLS = ("web_search", "namespace")
"""Built-in tools that Codex always declares."""


@pytest.fixture(scope="session")
def recorder() -> RequestRecorder:
    return RequestRecorder()


@pytest.fixture(scope="session")
def served(tiny_oss: Path, recorder: RequestRecorder) -> Iterator[ServedApi]:
    """A server whose model does what its prompt says. As by default, it stores no responses."""
    served = serve(tiny_oss, recorder, None)
    yield served
    served.stop()


@pytest.fixture(scope="session")
def storing(tiny_oss: Path, recorder: RequestRecorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """Another one, which stores responses."""
    location = SqlLocation(file=tmp_path_factory.mktemp("store") / "responses.db")
    store = ResponseStore(location, max_age_s=3600, max_bytes_per_owner=2**26)
    served = serve(tiny_oss, recorder, store)
    yield served
    served.stop()
    store.close()


def serve(tiny_oss: Path, recorder: RequestRecorder, store: ResponseStore | None) -> ServedApi:
    codec = HarmonyCodec.from_checkpoint(tiny_oss, CodecSettings())
    return ServedApi(
        PromptedEngine(codec),
        codec,
        middleware=recorder.wrap,
        stored_responses=StoredResponses(store),
        ignored_tools=IGNORED_TOOLS,
    )


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """Written to results.json when the session ends."""
    results = Results()
    yield results
    results.write()
