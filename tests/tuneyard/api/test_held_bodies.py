"""Ray Serve's queues between a client and the application hold little of a body, and lose none of it."""

from __future__ import annotations

import asyncio
import pickle
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tuneyard.api.held_bodies import MAX_HELD_BYTES, _held_bytes, limit_held_bodies

CHUNK = b"x" * 65_536
COUNT = 8 * MAX_HELD_BYTES // len(CHUNK)

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # Ray Serve's own, when it is imported
    from ray.serve._private.direct_ingress_http_util import ASGIDIReceiveProxy
    from ray.serve._private.http_util import ASGIReceiveProxy, MessageQueue


class Client:
    """Sends COUNT chunks as fast as they are taken, then disconnects."""

    def __init__(self) -> None:
        self.sent = 0

    async def receive(self) -> dict[str, Any]:
        await asyncio.sleep(0)
        self.sent += 1
        if self.sent > COUNT:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": CHUNK, "more_body": self.sent < COUNT}


@pytest.fixture(autouse=True)
def limits() -> None:
    for _ in range(2):
        limit_held_bodies()


async def read_slowly(proxy: Any, client: Client) -> None:
    """Reads the whole body, and checks meanwhile how far ahead the client is."""
    for taken in range(1, COUNT + 1):
        message = await proxy()
        assert message["body"] == CHUNK
        if taken % 64 == 0:
            await asyncio.sleep(0.02)
            assert (client.sent - taken) * len(CHUNK) <= 3 * MAX_HELD_BYTES
    assert (await proxy())["type"] == "http.disconnect"
    assert (await proxy())["type"] == "http.disconnect"


async def test_from_the_proxy_to_the_replica() -> None:
    client, queue = Client(), MessageQueue()

    async def pass_on() -> None:
        for _ in range(COUNT + 1):
            await queue(await client.receive())
        queue.close()

    async def fetch(_: Any) -> bytes:
        await queue.wait_for_message()
        return pickle.dumps(queue.get_messages_nowait())

    metadata: Any = None
    proxy = ASGIReceiveProxy({"type": "http"}, metadata, fetch)
    tasks = [asyncio.create_task(call) for call in (pass_on(), proxy.fetch_until_disconnect())]
    await asyncio.sleep(0.2)
    assert MAX_HELD_BYTES < client.sent * len(CHUNK) <= 3 * MAX_HELD_BYTES
    await read_slowly(proxy, client)
    await asyncio.wait_for(asyncio.gather(*tasks), 10)


async def test_in_a_replica_that_clients_reach_directly() -> None:
    client = Client()
    proxy = ASGIDIReceiveProxy({"type": "http"}, client.receive, asyncio.get_running_loop())
    task = proxy.fetch_until_disconnect_task()
    await asyncio.sleep(0.2)
    assert MAX_HELD_BYTES < client.sent * len(CHUNK) <= 2 * MAX_HELD_BYTES
    await read_slowly(proxy, client)
    await asyncio.wait_for(task, 10)


async def test_a_body_that_nobody_reads_ends_with_the_request() -> None:
    """The replica has answered without reading it; Serve then cancels what passes the body on, and closes the queue."""
    queue = MessageQueue()

    async def pass_on() -> None:
        client = Client()
        try:
            while True:
                await queue(await client.receive())
        finally:
            queue.close()

    task = asyncio.create_task(pass_on())
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task], timeout=5)
    assert task.cancelled()


def test_a_queue_that_another_thread_reads_can_be_measured() -> None:
    class ReadMeanwhile:
        """An iterable that changes during its first iteration, as a deque says it."""

        def __init__(self) -> None:
            self.iterations = 0

        def __iter__(self) -> Iterator[dict[str, bytes]]:
            self.iterations += 1
            yield {"body": b"12"}
            if self.iterations == 1:
                raise RuntimeError("deque mutated during iteration")

    assert _held_bytes(ReadMeanwhile()) == 2
