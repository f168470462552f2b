"""Libraries, unmodified: chat, stream, tool loop and structured output of each, over each route that it can use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.client_list import (
    ABILITIES,
    FOLDER,
    INSTALLED,
    JAVASCRIPT,
    LIBRARIES,
    ROUTE_PATHS,
    Ability,
    Client,
    Route,
)
from tests.clients.request_recorder import RequestRecorder
from tests.clients.results import FAILS, NOT_OFFERED, WORKS, Results
from tests.integration.served_api import ServedApi

pytestmark = pytest.mark.clients
CASES = [(client, route) for client in LIBRARIES for route in client.routes]
VERDICT = {"sunny": True, "wind": 3}
TIMEOUT_S = 300
Outcomes = Callable[[Client, Route], dict[str, Any]]


@pytest.fixture(scope="module")
def outcome_of(served: ServedApi, storing: ServedApi, recorder: RequestRecorder) -> Outcomes:
    """Runs a client's script, once per route, and gives what it reported."""
    outcomes: dict[str, dict[str, Any]] = {}
    for script in (FOLDER / "js_scripts").glob("*.mjs"):
        # Node looks for packages beside the script.
        shutil.copy(script, INSTALLED / JAVASCRIPT)

    def outcome_of(client: Client, route: Route) -> dict[str, Any]:
        key = f"{client.script}-{client.provider}-{route}"
        if key not in outcomes:
            outcomes[key] = run_script(client, route, storing if client.needs_storage else served, key)
        check_requests(recorder, key, route)
        return outcomes[key]

    return outcome_of


def run_script(client: Client, route: Route, served: ServedApi, key: str) -> dict[str, Any]:
    """What the client's script reports: by ability its results, an error, or None for what it does not offer."""
    variables = {"BASE_URL": f"{served.root}/v1", "API_KEY": key, "ROUTE": route, "PROVIDER": client.provider}
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")} | variables
    done = subprocess.run(
        client.command(), env=environment | OFFLINE, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return outcome


OFFLINE = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LANGSMITH_TRACING": "false", "OPENAI_AGENTS_DISABLE_TRACING": "1"}
"""Keeps clients from asking other hosts than the server."""


def check_requests(recorder: RequestRecorder, key: str, route: Route) -> None:
    """The client used the route, and none of its requests was refused."""
    seen = recorder.seen[key]
    assert {request.path for request in seen} == {ROUTE_PATHS[route]}
    assert [(request.body, request.answer) for request in seen if request.status != 200] == []


@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize(("client", "route"), CASES, ids=[f"{client.name}-{route}" for client, route in CASES])
def test_library(client: Client, route: Route, ability: Ability, outcome_of: Outcomes, results: Results) -> None:
    results.record(client, route, ability, FAILS)
    outcome = outcome_of(client, route)[ability]
    if outcome is None:
        results.record(client, route, ability, NOT_OFFERED)
        return
    assert "error" not in outcome, outcome["error"]
    match ability:
        case "chat":
            assert outcome == ["Hello.", "Sunny in Oslo."]
        case "stream":
            assert len(outcome) > 1
            assert "".join(outcome) == "Sunny in Oslo." or json.loads(outcome[-1]) == VERDICT
        case "tools":
            assert set(outcome) == {"The tool says: sunny, 21 degrees in Oslo"}
        case "structured":
            assert outcome
            assert all(verdict == VERDICT for verdict in outcome)
    results.record(client, route, ability, WORKS)
