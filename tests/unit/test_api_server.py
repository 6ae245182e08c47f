"""mdstream/api/server.py: what a client may do to the API's sockets, on either event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import uvloop
from fastapi import FastAPI, Request, Response
from processes import free_port

from mdstream.api import server
from mdstream.api.server import serve

CONNECTIONS, LIMIT_S = 8, 0.5
LARGE = bytes(32 << 20)
"""More than the sockets of both sides hold."""

Loop = Callable[[], asyncio.AbstractEventLoop]
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
either_loop = pytest.mark.parametrize(
    "loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"]
)


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", CONNECTIONS)
    monkeypatch.setattr(server, "REQUEST_LIMIT_S", LIMIT_S)


def run(loop: Loop, main: Coroutine[Any, Any, None]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await main

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(limited())


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/small")
    async def small() -> Response:
        return Response(b"small")

    @app.get("/large")
    async def large() -> Response:
        return Response(LARGE)

    @app.post("/refuse")
    async def refuse(_request: Request) -> Response:
        return Response(b"too large", 413)

    return app


class Clients:
    """Connections to the server."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self._port, self._stack = port, stack

    async def connect(self, message: bytes = b"") -> Connection:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._stack.callback(writer.close)
        writer.write(message)
        return reader, writer

    async def ask(self) -> bytes:
        reader, _ = await self.connect(b"GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return await reader.read()

    async def ask_until(self, status: int) -> None:
        while not (await self.ask()).startswith(f"HTTP/1.1 {status} ".encode()):  # noqa: ASYNC110  a client can but ask
            await asyncio.sleep(0.05)


async def send_forever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(LARGE[: 1 << 16])
        await writer.drain()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def serving() -> AsyncIterator[Clients]:
    port = free_port()
    async with serve(application(), host="127.0.0.1", port=port), AsyncExitStack() as stack:
        clients = Clients(port, stack)
        while True:
            try:
                await clients.ask_until(200)
                break
            except OSError:
                await asyncio.sleep(0.05)
        yield clients


@either_loop
def test_connections_beyond_the_bound_are_refused_and_room_comes_back(loop: Loop) -> None:
    """Those that send nothing, or half of their headers, or a byte now and then, are let go."""

    async def main() -> None:
        async with serving() as clients:
            parts = [b"", b"GET /small HT", b"GET /small HTTP/1.1\r\nHost: x\r\nX-Slow: "]
            idle = [await clients.connect(parts[n % len(parts)]) for n in range(CONNECTIONS)]
            await clients.ask_until(503)
            assert [await reader.read() for reader, _ in idle] == [b""] * CONNECTIONS
            await clients.ask_until(200)

    run(loop, main())


@either_loop
def test_a_body_does_not_wait_for_its_headers_to_be_acknowledged(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nagle's algorithm would hold it back, for 40 ms where the client delays its acknowledgements."""
    connected: list[socket.socket] = []
    made = server._Protocol.connection_made

    def noted(self: Any, transport: Any) -> None:
        connected.append(transport.get_extra_info("socket"))
        made(self, transport)

    monkeypatch.setattr(server._Protocol, "connection_made", noted)

    async def main() -> None:
        async with serving() as clients:
            reader, _ = await clients.connect(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"small")
            assert connected[-1].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(loop, main())


@either_loop
def test_who_reads_nothing_of_an_answer_is_disconnected(loop: Loop) -> None:
    """Else a few of them would hold all connections, and an answer each in our memory, for as long as they like."""

    async def main() -> None:
        async with serving() as clients:
            held = [await clients.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(CONNECTIONS)]
            for reader, _ in held:
                await reader.readuntil(b"\r\n\r\n")
            await clients.ask_until(200)

    run(loop, main())


@either_loop
def test_who_reads_slowly_gets_all(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes several times the limit, in which it reads a part."""
    monkeypatch.setattr(server, "REQUEST_LIMIT_S", 2.0)

    async def main() -> None:
        async with serving() as clients:
            reader, _ = await clients.connect(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            got = 0
            while part := await reader.read(1 << 17):
                got += len(part)
                await asyncio.sleep(0.025)
            assert got == len(LARGE)

    run(loop, main())


@either_loop
def test_who_is_refused_early_hears_it_though_more_of_the_body_comes(loop: Loop) -> None:
    """The rest is read and thrown away, within the limit: a connection that is cut would lose the answer."""

    async def main() -> None:
        async with serving() as clients:
            head = f"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: {len(LARGE)}\r\n\r\n"
            reader, writer = await clients.connect(head.encode() + LARGE[: 1 << 20])
            assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")
            await reader.readuntil(b"too large")
            with pytest.raises((ConnectionError, RuntimeError)):  # the latter by uvloop, of a closed transport
                await send_forever(writer)

    run(loop, main())
