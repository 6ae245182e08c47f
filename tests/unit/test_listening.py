"""mdstream/http/listening.py: what a client may do to an HTTP endpoint, over real sockets."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import pytest
import uvloop
from aiohttp import web
from processes import free_port

from mdstream.http import listening
from mdstream.http.endpoint import reply, serve

HOST = "127.0.0.1"


class Client(NamedTuple):
    """A connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self, limit_s: float = 5) -> bytes:
        """What comes until the other side ends."""
        return await asyncio.wait_for(self.reader.read(), limit_s)


class Server:
    """An endpoint with the page /health, and its clients."""

    def __init__(self, port: int, stack: AsyncExitStack) -> None:
        self._port, self._stack = port, stack

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection(HOST, self._port))
        self._stack.callback(client.writer.close)
        return client

    async def ask(self, request: bytes = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") -> bytes:
        client = await self.connect()
        await client.say(request)
        return await client.rest()


@pytest.fixture(autouse=True)
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_CONNECTIONS", 8)
    monkeypatch.setattr(listening, "REQUEST_LIMIT_S", 0.4)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    async def health(_request: web.Request) -> web.Response:
        return reply({"status": "ok"})

    application = web.Application()
    application.router.add_get("/health", health)
    port = free_port()
    async with serve(application, host=HOST, port=port), AsyncExitStack() as stack:
        yield Server(port, stack)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


@pytest.mark.parametrize("message", [b"", b"GET /health HT", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_half_sent_request_is_let_go_in_time(server: Server, message: bytes) -> None:
    """5,000 of them would take every descriptor that the process has."""
    client = await server.connect()
    await client.say(message)
    assert await client.rest(limit_s=3) == b""


async def test_request_that_trickles_in_is_let_go_in_time(server: Server) -> None:
    """Each byte for itself buys no more time."""
    client = await server.connect()

    async def trickle() -> None:
        for byte in b"GET /health HTTP/1.1\r\nX-Slow: " + b"x" * 1000:
            await client.say(bytes([byte]))
            await asyncio.sleep(0.05)

    trickling = asyncio.ensure_future(trickle())
    began = asyncio.get_running_loop().time()
    try:
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(asyncio.gather(client.reader.readexactly(1), trickling), 3)
    finally:
        trickling.cancel()
    assert asyncio.get_running_loop().time() - began < 2


@pytest.mark.parametrize("new_loop", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_connections_beyond_the_bound_are_refused_and_room_comes_back(
    caplog: pytest.LogCaptureFixture, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The refused client is told, the log is not; once the idle ones are let go, all is as before. On either loop:
    their transports have no class in common."""

    async def fill_up() -> None:
        async with serving() as server:
            idle = [await server.connect() for _ in range(8)]
            await asyncio.sleep(0.05)
            assert (await server.ask()).startswith(b"HTTP/1.1 503 ")
            for client in idle:
                await client.rest(limit_s=3)
            assert (await server.ask()).startswith(b"HTTP/1.1 200 ")

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(fill_up())
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET " + b"/x" * 10_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /health HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_malformed_request_is_answered_without_a_traceback(
    server: Server, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    """400 for whoever sent it, nothing in the log: a scan must not fill it."""
    with caplog.at_level(logging.INFO):
        answer = await server.ask(request_)
    assert answer.split(b" ", 2)[1] in {b"400", b"405"}, answer
    assert [record for record in caplog.records if record.exc_info] == []
    assert b"Traceback" not in answer


async def test_programming_error_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is quiet about clients must not be quiet about us."""

    async def broken(_request: web.Request) -> web.Response:
        raise RuntimeError("ours")

    application = web.Application()
    application.router.add_get("/health", broken)
    port = free_port()
    async with serve(application, host=HOST, port=port), AsyncExitStack() as stack:
        assert (await Server(port, stack).ask()).startswith(b"HTTP/1.1 500 ")
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["ours"]


async def test_every_answer_forbids_what_it_does_not_need(server: Server) -> None:
    """Also an error: nothing may be framed, guessed at, cached or run."""
    for path in (b"/health", b"/nowhere"):
        head, _, body = (await server.ask(b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path)).partition(
            b"\r\n\r\n"
        )
        for name, value in listening.HEADERS.items():
            assert f"{name}: {value}".encode() in head.split(b"\r\n")
    assert b"404" in body
    assert json.loads((await server.ask()).partition(b"\r\n\r\n")[2]) == {"status": "ok"}
