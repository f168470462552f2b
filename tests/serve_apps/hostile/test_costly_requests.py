"""No request hurts the server: what is expensive is refused, what is accepted does not hold the event loop.

Sent to a server process. Pauses of its loop are CPU time, which does not depend on the load of the machine.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.serve_apps.hostile.hostile_requests import refused_requests, worst_requests
from tests.serve_apps.hostile.running_server import HEADERS, Server

HEALTH_PAUSE_S = 0.1
MOST_GROWTH_BYTES = 48 * 2**20
PREFIXES = ("", "/gateway")


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("path", "body"), [pytest.param(path, body, id=name) for name, path, body in refused_requests()]
)
def test_what_once_stopped_the_server_is_refused(server: Server, path: str, body: dict[str, Any], prefix: str) -> None:
    assert server.send(prefix + path, json.dumps(body).encode()).status_code in (400, 413)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("path", "body"), [pytest.param(p, b, id=f"{p} {n}") for n, p, b in worst_requests()])
def test_the_worst_accepted_requests_do_not_hold_the_loop(
    server: Server, path: str, body: dict[str, Any], prefix: str
) -> None:
    server.send(prefix + path, json.dumps(body).encode())


@pytest.mark.integration
def test_memory_stays_flat(server: Server) -> None:
    repeat_requests(server, encoded([*worst_requests(), *refused_requests()], 200_000), rounds=3)


async def test_health_is_answered_while_ten_of_the_worst_requests_are_prepared(server: Server) -> None:
    """The pause of the loop is what a health check waits, on a machine with nothing else to do."""
    ten = encoded(worst_requests(), 10**9)[:10]
    async with httpx.AsyncClient(base_url=server.root, timeout=120) as client:
        server.pause_s()
        sending = [asyncio.create_task(client.post(path, content=data, headers=HEADERS)) for path, data in ten]
        answered = 0
        while not all(task.done() for task in sending):
            assert (await client.get("/healthz")).status_code == 200
            answered += 1
        assert answered > len(ten)
        assert all(task.result().status_code < 500 for task in sending)
        assert server.pause_s("own_pause_s") < HEALTH_PAUSE_S


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_stays_flat_long(server: Server) -> None:
    repeat_requests(server, encoded([*worst_requests(), *refused_requests()], 10**9), rounds=20)


def repeat_requests(server: Server, requests: list[tuple[str, bytes]], rounds: int) -> None:
    """After two rounds that fill caches, memory does not grow with what else is sent.

    After a round a process may hold a hundred mebibytes that it has not yet returned, or that its allocator keeps:
    so the least of the last rounds is compared with the least of the first. What is kept stays in both.
    """
    held = []
    for _ in range(rounds + 2):
        for path, data in requests:
            for prefix in PREFIXES:
                server.send(prefix + path, data)
        held.append(server.memory_bytes())
    compared = max(1, rounds // 4)
    assert min(held[-compared:]) - min(held[1 : 1 + compared]) < MOST_GROWTH_BYTES, held


def encoded(requests: list[tuple[str, str, dict[str, Any]]], most_bytes: int) -> list[tuple[str, bytes]]:
    """Path and body of the requests with bodies up to this size."""
    datas = [(path, json.dumps(body).encode()) for _, path, body in requests]
    return [(path, data) for path, data in datas if len(data) <= most_bytes]
