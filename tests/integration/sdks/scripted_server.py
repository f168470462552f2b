"""Serves scripted answers over HTTP, and stores responses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from serve_apps.api.responses.store import ResponseStore
from serve_apps.api.responses.stored_responses import StoredResponses
from serve_apps.engines.engine import OPTIONS
from serve_apps.engines.scripted_engine import ScriptedEngine
from tests.harmony_text import encode_spelled_out
from tests.integration.served_api import ServedApi
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.storage.sql.location import SqlLocation


@contextlib.contextmanager
def serve_script(
    codec: HarmonyCodec, replies: Sequence[str], folder: Path, token_interval_s: float = 0.0
) -> Iterator[ServedApi]:
    """A server whose answers are the replies, in turn. Its stored responses are in the folder."""
    script = [encode_spelled_out(codec.checkpoint, reply) for reply in replies]
    store = ResponseStore(SqlLocation(file=folder / "responses.db"), max_age_s=3600, max_bytes_per_owner=2**20)
    engine = ScriptedEngine(script, token_interval_s, options=OPTIONS)
    served = ServedApi(engine, codec, stored_responses=StoredResponses(store))
    try:
        yield served
    finally:
        served.stop()
        store.close()
