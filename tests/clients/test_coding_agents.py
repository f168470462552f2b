"""Coding agents, unmodified, with one prompt each: answer, stream, a tool that reads a file, structured answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.clients.client_list import ROUTE_PATHS
from tests.clients.coding_agents import AGENTS, NOTE, SECRET, Agent, AgentFolder
from tests.clients.request_recorder import RequestRecorder, SeenRequest
from tests.clients.results import FAILS, NOT_OFFERED, WORKS, Results
from tests.integration.served_api import ServedApi

pytestmark = pytest.mark.clients
each_agent = pytest.mark.parametrize("agent", AGENTS, ids=[agent.client.name for agent in AGENTS])


@pytest.fixture
def folder(tmp_path: Path, served: ServedApi, agent: Agent, request: pytest.FixtureRequest) -> AgentFolder:
    """The folder of an agent; its API key names the test."""
    return AgentFolder(tmp_path, f"{served.root}/v1", f"{agent.client.package}-{request.function.__name__}")


def answered_requests(recorder: RequestRecorder, agent: Agent, folder: AgentFolder) -> list[SeenRequest]:
    """The agent's requests, all of which used its route and were answered."""
    seen = recorder.seen[folder.api_key]
    (route,) = agent.client.routes
    assert {request.path for request in seen} == {ROUTE_PATHS[route]}
    assert [(request.body, request.answer) for request in seen if request.status != 200] == []
    return seen


@each_agent
def test_chat_and_stream(agent: Agent, folder: AgentFolder, recorder: RequestRecorder, results: Results) -> None:
    (route,) = agent.client.routes
    for ability in ("chat", "stream"):
        results.record(agent.client, route, ability, FAILS)
    assert "Sunny in Oslo." in agent.run(folder, 'Say "Sunny in Oslo."')
    seen = answered_requests(recorder, agent, folder)
    results.record(agent.client, route, "chat", WORKS)
    assert all(request.body["stream"] is True for request in seen)
    results.record(agent.client, route, "stream", WORKS)


@each_agent
def test_tools(agent: Agent, folder: AgentFolder, recorder: RequestRecorder, results: Results) -> None:
    (route,) = agent.client.routes
    results.record(agent.client, route, "tools", FAILS)
    answer = agent.run(folder, agent.read_note.replace("{path}", str(folder.path / NOTE)))
    assert "The tool says: " in answer
    assert SECRET in answer
    answered_requests(recorder, agent, folder)
    results.record(agent.client, route, "tools", WORKS)


@each_agent
def test_structured(agent: Agent, folder: AgentFolder, recorder: RequestRecorder, results: Results) -> None:
    (route,) = agent.client.routes
    results.record(agent.client, route, "structured", FAILS)
    if agent.structured is not None:
        answer = agent.run(folder, agent.structured, structured=True)
        assert json.loads(answer.strip().splitlines()[-1]) == {"sunny": True, "wind": 3}
        answered_requests(recorder, agent, folder)
    results.record(agent.client, route, "structured", NOT_OFFERED if agent.structured is None else WORKS)
