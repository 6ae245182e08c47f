"""One connection against a real websocket server, with limits short enough to be met: silence, keepalive, giving up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import ClassVar

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Response

from mdstream.errors import FeedError, RefusedError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.connection import Connection
from mdstream.ingest.intake import Intake
from mdstream.ticks import Control, Tick
from mdstream.venues.feed import Keepalive, Request
from mdstream.venues.framer import Lines
from mdstream.venues.okx.feed import Okx

pytestmark = pytest.mark.system

TRADES = [
    b'{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"tradeId":"%d","px":"1","sz":"1","side":"buy","ts":"1"}]}'
    % n
    for n in range(500)
]
SHUTDOWN = b'{"event":"notice","code":"64008","msg":"closing soon"}'
Handler = Callable[[ServerConnection], Awaitable[None]]


class Hasty(Okx):
    """OKX with little patience."""

    silence_s = 1.0
    keepalive: ClassVar[Keepalive | None] = None
    subscribe_interval_s = 0.01


class Polite(Hasty):
    keepalive = Keepalive(0.2, "ping")


class Aged(Hasty):
    max_age_s = 1.0


class Slow(Hasty):
    """Its second request is due long after the first."""

    subscribe_interval_s = 0.7

    def subscribe(self, symbols: Sequence[str]) -> list[Request]:
        return [*super().subscribe(symbols), Request("more")]


class Members(Hasty):
    """With a login; the venue answers it as it answers a subscription."""

    credentials = ("TERN_KEY",)

    def login(self, settings: Mapping[str, str]) -> Request | None:
        return Request(f"login {settings['TERN_KEY']}", ("login",))

    def decode(self, frame: bytes, contract_size: bytes = b"") -> Sequence[Tick]:
        if frame in (b"welcome", b"wrong key"):
            return (Control("ack" if frame == b"welcome" else "error", frame.decode(), ("login",)),)
        return super().decode(frame, contract_size)


class Wired(Hasty):
    """At the end of a TCP connection that carries lines."""

    framer = Lines(b"\r\n")


class Reader:
    """A connection, what it reads, and what it says of itself."""

    def __init__(self, url: str, provider: Okx, max_attempts: int | None) -> None:
        self.backlog = Backlog(1)
        self.changes: list[tuple[bool, str | None]] = []
        intake = Intake(provider, self.backlog, {"crypto": range(1)})
        self.counters = intake.counters
        self.connection = Connection(
            provider,
            url,
            ["BTCUSDT"],
            intake,
            lambda up, why: self.changes.append((up, why)),
            settings={"TERN_KEY": "right"},
            max_attempts=max_attempts,
        )

    @property
    def frames(self) -> list[bytes | None]:
        records, _ = self.backlog.take(0, 1 << 40)
        return [value for _, value, _, _ in records]


@asynccontextmanager
async def reading(
    handler: Handler, *, provider: Okx | None = None, max_attempts: int | None = None, status: int | None = None
) -> AsyncIterator[tuple[Reader, asyncio.Task[None]]]:
    """A connection to a server that treats each client with `handler`, or answers HTTP `status` instead."""

    def answer(client: ServerConnection, _: object) -> Response | None:
        return None if status is None else client.respond(HTTPStatus(status), "no\n")

    async with serve(handler, "127.0.0.1", 0, compression=None, process_request=answer) as server:
        port = server.sockets[0].getsockname()[1]
        reader = Reader(f"ws://127.0.0.1:{port}", provider or Hasty(), max_attempts)
        running = asyncio.create_task(reader.connection.run())
        try:
            yield reader, running
        finally:
            await reader.connection.close()
            running.cancel()
            await asyncio.wait([running])


async def test_a_silent_connection_is_made_again() -> None:
    """The socket is up and nothing comes: taken for dead, closed, and a new one asked for the same."""
    requested: list[str] = []
    again = asyncio.Event()

    async def say_nothing(client: ServerConnection) -> None:
        async for frame in client:
            requested.append(str(frame))
            if len(requested) == 2:
                again.set()

    async with reading(say_nothing) as (reader, _):
        await asyncio.wait_for(again.wait(), 60)
        assert requested[0] == requested[1]
        assert reader.counters.silences == 1
        assert reader.changes[:2] == [(True, None), (False, "no frame for 1 s")]


async def test_an_answered_keepalive_keeps_a_quiet_connection() -> None:
    """The venue's own ping is sent when nothing comes, and any answer counts as a sign of life."""
    pings = asyncio.Semaphore(0)

    async def answer_pings(client: ServerConnection) -> None:
        async for frame in client:
            if frame == "ping":
                await client.send("pong")
                pings.release()

    async with reading(answer_pings, provider=Polite()) as (reader, _):
        for _ in range(8):  # at 0.2 s each: longer than the silence that would be taken for death
            await asyncio.wait_for(pings.acquire(), 60)
        assert reader.counters.silences == 0
        assert reader.counters.connections == 1


async def test_frames_sent_before_a_close_are_all_read() -> None:
    """Also while subscriptions are still on their way, and the next of them finds the connection closed."""

    async def send_and_leave(client: ServerConnection) -> None:
        await client.recv()
        for frame in TRADES:
            await client.send(frame, text=True)

    async with reading(send_and_leave) as (reader, _):
        async with asyncio.timeout(60):
            while reader.counters.disconnections == 0:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        assert reader.frames == TRADES


async def test_a_venue_that_only_ever_accepts_is_given_up() -> None:
    """A connection without data is a failed attempt, although it was opened."""

    async def leave(client: ServerConnection) -> None:
        await client.recv()

    async with reading(leave, max_attempts=2) as (reader, running):
        with pytest.raises(FeedError, match="okx gave no data in 2 connections in a row, the last one: received 1000"):
            await asyncio.wait_for(running, 60)
        assert reader.counters.connections == 2


async def test_data_starts_the_count_of_attempts_over() -> None:
    """A feed that delivers between its losses is never given up, with a single attempt allowed too."""

    async def send_one_and_leave(client: ServerConnection) -> None:
        await client.recv()
        await client.send(TRADES[0], text=True)

    async with reading(send_one_and_leave, max_attempts=1) as (reader, running):
        async with asyncio.timeout(60):
            while reader.counters.connections < 3:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        assert not running.done()


async def test_close_ends_a_connection_that_waits_for_its_next_attempt() -> None:
    """Stopping does not wait out a backoff."""

    async def leave(client: ServerConnection) -> None:
        await client.recv()

    async with reading(leave) as (reader, running):
        async with asyncio.timeout(60):
            while reader.counters.disconnections == 0:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        await reader.connection.close()
        await asyncio.wait_for(running, 60)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_denied_handshake_is_final_and_says_what_to_set(status: int) -> None:
    """Another attempt would be denied, too, however often; a venue may even ban a client that keeps trying."""

    async def never(_: ServerConnection) -> None:
        raise AssertionError("no websocket was made")

    async with reading(never, status=status) as (reader, running):
        with pytest.raises(RefusedError) as refused:
            await asyncio.wait_for(running, 60)
        assert str(refused.value).startswith("okx refuses us: ws://127.0.0.1:")
        assert str(refused.value).endswith(f" answers HTTP {status}: set OKX_WS_URL to an address with access")
        assert reader.counters.failed_attempts == 1


async def test_any_other_status_is_tried_again() -> None:
    """A block of a region says so, and may be lifted."""

    async def never(_: ServerConnection) -> None:
        raise AssertionError("no websocket was made")

    async with reading(never, status=451, max_attempts=2) as (reader, running):
        with pytest.raises(FeedError, match="HTTP 451: the venue does not serve this region") as given_up:
            await asyncio.wait_for(running, 60)
        assert not isinstance(given_up.value, RefusedError)
        assert reader.counters.failed_attempts == 2


async def test_the_login_comes_before_the_subscriptions() -> None:
    """And they follow as soon as it is accepted."""
    requested: list[str] = []

    async def greet(client: ServerConnection) -> None:
        async for frame in client:
            requested.append(str(frame))
            await client.send("welcome" if len(requested) == 1 else TRADES[0].decode())

    async with reading(greet, provider=Members()):
        async with asyncio.timeout(60):
            while len(requested) < 2:  # noqa: ASYNC110  a plain list is all there is
                await asyncio.sleep(0.01)
        assert requested[0] == "login right"
        assert "subscribe" in requested[1]


async def test_a_refused_login_is_final_and_says_what_to_set() -> None:
    """The venue keeps the socket open and mute, as some do: waiting would be for ever."""

    async def refuse(client: ServerConnection) -> None:
        async for _ in client:
            await client.send("wrong key")

    async with reading(refuse, provider=Members()) as (_, running):
        with pytest.raises(RefusedError, match="okx refuses us: the login was refused, wrong key: set TERN_KEY"):
            await asyncio.wait_for(running, 60)


class Exchange:
    """Sends a trade each 10 ms to whoever subscribed, and notes how many clients it has."""

    def __init__(self) -> None:
        self.clients: list[ServerConnection] = []
        self.most = 0
        self.sent = 0

    async def __call__(self, client: ServerConnection) -> None:
        await client.recv()
        self.clients.append(client)
        self.most = max(self.most, len(self.clients))
        with suppress(ConnectionClosed):
            while True:
                await client.send(TRADES[self.sent % len(TRADES)], text=True)
                self.sent += 1
                await asyncio.sleep(0.01)
        self.clients.remove(client)


async def test_an_aged_connection_is_replaced_before_it_is_closed() -> None:
    """The new one is subscribed and read while the old one still is: the feed was never disconnected."""
    exchange = Exchange()
    async with reading(exchange, provider=Aged()) as (reader, _):
        async with asyncio.timeout(60):
            while reader.counters.replacements < 2:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        assert exchange.most >= 2
        assert all(up for up, _ in reader.changes)
        assert reader.counters.disconnections == 2, "each was closed when its successor had settled"


async def test_a_connection_that_cannot_be_replaced_goes_on() -> None:
    """The venue takes no second client for a while; the first one is read on, and replaced as soon as that works."""
    exchange, denied = Exchange(), 0

    async def one_client(client: ServerConnection) -> None:
        nonlocal denied
        if exchange.clients and denied < 2:
            denied += 1
            await client.close()
        else:
            await exchange(client)

    async with reading(one_client, provider=Aged()) as (reader, _):
        async with asyncio.timeout(60):
            while reader.counters.replacements < 1:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        assert denied == 2
        assert all(up for up, _ in reader.changes)


async def test_a_connection_that_ends_while_it_is_replaced_is_reported() -> None:
    """Its successor, which is not answered, is read all the same; the feed is connected once that has subscribed."""
    requests = 0

    async def leave_soon(client: ServerConnection) -> None:
        nonlocal requests
        requests += 1
        await client.send(TRADES[requests], text=True)
        if requests == 1:
            await client.recv()
            await client.recv()
            await client.send(SHUTDOWN, text=True)
            await asyncio.sleep(0.3)
        else:
            await client.wait_closed()

    async with reading(leave_soon, provider=Slow()) as (reader, _):
        async with asyncio.timeout(60):
            while len(reader.changes) < 3:  # noqa: ASYNC110  a plain list is all there is
                await asyncio.sleep(0.01)
        assert [up for up, _ in reader.changes] == [True, False, True]
        assert {TRADES[1], TRADES[2]} < set(reader.frames)


async def test_closing_in_the_middle_of_a_replacement_ends_both() -> None:
    """A stop waits for no overlap."""
    exchange = Exchange()
    async with reading(exchange, provider=Aged()) as (reader, running):
        async with asyncio.timeout(60):
            while len(exchange.clients) < 2:  # noqa: ASYNC110  a plain list is all there is
                await asyncio.sleep(0.01)
        await reader.connection.close()
        await asyncio.wait_for(running, 60)
        assert reader.counters.replacements <= 1


async def test_a_tcp_venue_is_read_by_the_same_rules() -> None:
    """Requests out, frames in, silence closes, and the next connection asks for the same: only the link differs."""
    requested: list[bytes] = []

    async def send_and_wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested.append(await reader.readuntil(b"}]}"))
        writer.write(b"".join(frame + b"\r\n" for frame in TRADES))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(send_and_wait, "127.0.0.1", 0)
    async with server:
        reader = Reader(f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}", Wired(), None)
        running = asyncio.create_task(reader.connection.run())
        async with asyncio.timeout(60):
            while reader.counters.connections < 2:  # noqa: ASYNC110  a plain counter is all there is
                await asyncio.sleep(0.01)
        await reader.connection.close()
        await asyncio.wait_for(running, 60)
        assert reader.frames[: len(TRADES)] == TRADES
    assert reader.changes[:2] == [(True, None), (False, "no frame for 1 s")]
    assert b'"instId": "BTC-USDT"' in requested[0]
