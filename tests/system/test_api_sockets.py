"""Live events of `mdstream api` over websockets: a real process, a real broker, real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import pytest
import websockets
from alerts import until_shown
from canonical import Event, made_settings, publish
from processes import Process, Processes, free_port
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from mdstream import events
from mdstream.config import Settings
from mdstream.events import Bar, BookL2, Trade

pytestmark = pytest.mark.system

LIMIT_S = 120


@pytest.fixture
def settings(env: Mapping[str, str]) -> Settings:
    return made_settings(env)


def start(processes: Processes, **settings: str) -> tuple[Process, int]:
    port = free_port()
    process = processes.mdstream("api", "--port", port, env=settings)
    process.wait_for("/docs shows what there is")
    return process, port


def trades(seqs: Iterable[int], symbol: str = "BTCUSDT") -> list[Event]:
    made = (Trade(symbol, seq, "binance", str(seq), 1.5, 2.0, "buy", seq, seq + 1) for seq in seqs)
    return [("trades", symbol.encode(), events.encode(trade)) for trade in made]


def connect(port: int, asked: str, **headers: str) -> websockets.connect:
    return websockets.connect(f"ws://127.0.0.1:{port}/v1/stream/{asked}", additional_headers=headers)


async def some(connection: ClientConnection, count: int) -> list[Any]:
    async with asyncio.timeout(LIMIT_S):
        return [json.loads(await connection.recv()) for _ in range(count)]


async def test_messages_are_the_events_of_the_topic(processes: Processes, settings: Settings) -> None:
    """From where the client says: by a start, or by the id that the other form of the stream has given it."""
    _, port = start(processes)
    bar = Bar("BTCUSDT", "1m", 60, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, 3, 0)
    made = [*trades([*range(10), *range(5, 10)]), ("bars", b"BTCUSDT", events.encode(bar))]
    await asyncio.to_thread(publish, settings, made)
    async with connect(port, "trades?symbol=BTCUSDT&start=4") as one:
        assert await some(one, 6) == [json.loads(value) for _, _, value in made[4:10]]
        await asyncio.to_thread(publish, settings, trades([10, 13]))
        ten, hole, behind = await some(one, 3)
        assert (ten["seq"], behind["seq"]) == (10, 13)
        assert hole == {"type": "hole", "symbol": "BTCUSDT", "first": 11, "last": 12}
    async with connect(port, "trades?symbol=BTCUSDT", **{"Last-Event-ID": "8"}) as again:
        assert [each["seq"] for each in await some(again, 2)] == [9, 10]
    async with connect(port, "bars?symbol=BTCUSDT&interval=1m&start=earliest") as bars:
        assert await some(bars, 1) == [json.loads(events.encode(bar))]


async def test_what_is_refused_says_why(processes: Processes, settings: Settings) -> None:
    """Before anything is sent. A page of another site is a stranger, though a browser lets it connect."""
    keys = sha256(b"key").hexdigest()
    process, port = start(
        processes, MDSTREAM_API_KEYS=keys, MDSTREAM_API_STREAMS="1", MDSTREAM_API_ORIGINS="https://a.b"
    )
    key, asked = {"Authorization": "Bearer key"}, "trades?symbol=BTCUSDT"

    async def refused(path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        with pytest.raises(InvalidStatus) as found:
            await connect(port, path, **headers)
        response = found.value.response
        return response.status_code, json.loads(response.body or b"")["error"]

    assert await refused(asked, {}) == (401, "unauthorized")
    assert await refused(asked, {"Authorization": "Bearer other"}) == (401, "unauthorized")
    for stranger in ("https://elsewhere.example", "null", "http://[", ""):
        assert (await refused(asked, key | {"Origin": stranger}))[0] == 403
    for bad, why in (("trades", "symbol is missing"), (f"{asked}&start=soon", "soon")):
        status, error = await refused(bad, key)
        assert (status, why in error) == (400, True)
    for origin in ("https://a.b", f"http://127.0.0.1:{port}"):
        async with connect(port, asked, **key, Origin=origin):
            pass
        await until_shown(port, "mdstream_api_streams 0.0")
    async with connect(port, asked, **key):
        assert (await refused(asked, key))[0] == 503
    assert "ERROR" not in process.output()  # anybody could fill a disk with them


async def test_a_record_that_is_no_event_ends_it(processes: Processes, settings: Settings) -> None:
    await asyncio.to_thread(publish, settings, [*trades([1]), ("trades", b"BTCUSDT", b"{not JSON")])
    _, port = start(processes)
    async with connect(port, "trades?symbol=BTCUSDT&start=earliest") as one:
        trade, failure = await some(one, 2)
        assert (trade["seq"], failure["type"], "is no event" in failure["error"]) == (1, "failure", True)
        with pytest.raises(ConnectionClosed) as closed:
            await some(one, 1)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_sigterm_ends_it(processes: Processes, settings: Settings) -> None:
    """With the code that says: come back."""
    process, port = start(processes)
    async with connect(port, "trades?symbol=BTCUSDT") as one:
        stopped = asyncio.create_task(asyncio.to_thread(process.stop))
        with pytest.raises(ConnectionClosed) as closed:
            await some(one, 1)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert await stopped == 0
    assert "Traceback" not in process.output()


async def test_who_reads_nothing_is_disconnected(processes: Processes, settings: Settings) -> None:
    """Though no ping of it was missed yet; another client gets all."""
    levels = [(float(n), 1.0) for n in range(200)]
    made = [BookL2("BTCUSDT", n, "okx", levels, levels, None, 5) for n in range(6_000)]  # 30 MB, more than sockets hold
    await asyncio.to_thread(publish, settings, [("books", b"BTCUSDT", events.encode(book)) for book in made])
    process, port = start(processes)
    asked = "books?symbol=BTCUSDT&start=earliest"
    with socket.create_connection(("127.0.0.1", port)) as idle:
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="
        idle.sendall(f"GET /v1/stream/{asked} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{key}\r\n\r\n".encode())
        async with connect(port, asked) as one:
            assert [each["seq"] for each in await some(one, len(made))] == list(range(len(made)))
        await until_shown(port, "mdstream_api_slow_clients_total 1.0")
        await until_shown(port, "mdstream_api_streams 0.0")
    assert "Traceback" not in process.output()
