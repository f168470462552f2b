"""A client that sends headers slowly, without end or not at all is disconnected; others are served as before."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tuneyard.api.header_limits import VARIABLE, proxy_environment, with_header_limits
from tuneyard.configs.limits.header_limits import HeaderLimits

REQUEST = b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\n\r\n"
PROTOCOLS: Any = pytest.mark.parametrize("protocol", [HttpToolsProtocol, H11Protocol])


async def echo_length(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the length of the body, read until its end; on /slow after a second, on /refuse without reading."""
    length, is_complete = 0, scope["path"] == "/refuse"
    while not is_complete:
        message = await receive()
        length += len(message.get("body", b""))
        is_complete = not message.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(1)
    body = str(length).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Client:
    """A connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def close(self) -> None:
        self._writer.close()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def drip(self, data: bytes) -> bytes:
        """Sends a byte every 0.05 s until the server closes the connection; returns what it had sent before."""
        rest = asyncio.create_task(self.rest())
        for byte in data:
            with contextlib.suppress(ConnectionError):
                await self.send(bytes([byte]))
            if (await asyncio.wait({rest}, timeout=0.05))[0]:
                break
        return await rest

    async def rest(self) -> bytes:
        """What the server sends until it closes the connection."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(self._reader.read(1000), 30):
                received += part
        return bytes(received)

    async def answer(self) -> bytes:
        """One answer of the application."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 30)
        return head + await self._reader.readexactly(1)


Connect = Callable[[], Awaitable[Client]]


@contextlib.asynccontextmanager
async def serving(protocol: type[asyncio.Protocol], **limits: Any) -> AsyncIterator[Connect]:
    """Yields a function that connects to a server with the limits; by default headers have 0.2 s."""
    limited = with_header_limits(protocol, HeaderLimits(**({"timeout_s": 0.2} | limits)))
    config = uvicorn.Config(echo_length, port=0, http=limited, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    clients: list[Client] = []

    async def connect() -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port)))
        return clients[-1]

    try:
        yield connect
    finally:
        for client in clients:
            client.close()
        server.should_exit = True
        await running


@PROTOCOLS
async def test_slow_headers_end_the_connection(protocol: type[asyncio.Protocol]) -> None:
    async with serving(protocol) as connect:
        client = await connect()
        assert (await client.drip(REQUEST)).startswith(b"HTTP/1.1 408 Request Timeout\r\nconnection: close")


@PROTOCOLS
async def test_a_connection_without_a_request_is_closed(protocol: type[asyncio.Protocol]) -> None:
    async with serving(protocol) as connect:
        assert await (await connect()).rest() == b""


@PROTOCOLS
async def test_a_slow_body_is_left_to_the_application(protocol: type[asyncio.Protocol]) -> None:
    async with serving(protocol) as connect:
        client = await connect()
        await client.send(REQUEST)
        for byte in b"123456":
            await client.send(bytes([byte]))
            await asyncio.sleep(0.06)
        assert (await client.answer()).endswith(b"\r\n\r\n6")


@PROTOCOLS
async def test_later_requests_of_a_connection_have_the_deadline_too(protocol: type[asyncio.Protocol]) -> None:
    async with serving(protocol) as connect:
        client = await connect()
        for _ in range(2):
            await client.send(REQUEST + b"123456")
            assert (await client.answer()).endswith(b"6")
            await asyncio.sleep(0.3)  # between two requests there is no such deadline
        assert (await client.drip(REQUEST)).startswith(b"HTTP/1.1 408")


async def test_the_rest_of_a_body_that_was_refused_is_not_taken_for_headers() -> None:
    """An answer may come before the body has arrived, as for a wrong key; the connection goes on."""
    async with serving(HttpToolsProtocol, timeout_s=60, max_bytes=1024) as connect:
        client = await connect()
        await client.send(b"POST /refuse HTTP/1.1\r\nhost: test\r\ncontent-length: 300000\r\n\r\n")
        assert (await client.answer()).endswith(b"0")
        for _ in range(3):
            await client.send(b"a" * 100_000)
        await client.send(REQUEST + b"123456")
        assert (await client.answer()).endswith(b"6")


@PROTOCOLS
async def test_bytes_after_a_request_do_not_cut_its_answer(protocol: type[asyncio.Protocol]) -> None:
    async with serving(protocol) as connect:
        client = await connect()
        await client.send(b"GET /slow HTTP/1.1\r\nhost: test\r\n\r\n")
        await asyncio.sleep(0.05)
        await client.send(b"\r\n")
        assert (await client.answer()).endswith(b"0")


async def test_headers_without_end_are_refused() -> None:
    """httptools has no limit of its own; h11 has."""
    async with serving(HttpToolsProtocol, timeout_s=60, max_bytes=4096) as connect:
        client = await connect()
        await client.send(b"GET / HTTP/1.1\r\nhost: test\r\n")
        await client.send(b"x: " + b"a" * 4000)
        await client.send(b"a" * 100)
        assert (await client.rest()).startswith(b"HTTP/1.1 431")


async def test_of_many_waiting_connections_the_oldest_is_closed() -> None:
    async with serving(HttpToolsProtocol, timeout_s=60, max_connections=3) as connect:
        clients = [await connect() for _ in range(3)]
        for client in clients:
            await client.send(b"POST /")
        await asyncio.sleep(0.1)
        newest = await connect()
        assert (await clients[0].rest()).startswith(b"HTTP/1.1 408")
        for client, rest in ((newest, REQUEST), (clients[1], REQUEST.removeprefix(b"POST /"))):
            await client.send(rest + b"123456")
            assert (await client.answer()).endswith(b"6")


def test_ray_serves_processes_keep_the_limits() -> None:
    """Ray Serve calls the function of its variable in each process before a uvicorn server starts there."""
    settings = proxy_environment(HeaderLimits(timeout_s=2.5))
    assert json.loads(settings[VARIABLE])["timeout_s"] == 2.5
    assert settings["RAY_SERVE_HAPROXY_BALANCE_ALGORITHM"].splitlines()[1].strip() == "timeout http-request 2500ms"
    program = (
        "import uvicorn; from ray.serve._private.http_util import configure_http_middlewares, HTTPOptions; "
        "assert configure_http_middlewares(HTTPOptions()).middlewares == []; "
        "configure_http_middlewares(HTTPOptions()); "
        "config = uvicorn.Config(lambda: None); config.load(); "
        "print([kind.__name__ for kind in config.http_protocol_class.__mro__[:2]])"
    )
    environment = settings | {"PYTHONPATH": "platform:.", "PATH": ""}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "['LimitedProtocol', 'HttpToolsProtocol']", run.stderr
