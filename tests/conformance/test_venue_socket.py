"""Every venue over a real socket: against its own simulated venue, with a disconnect, and its history over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest
from test_venue_simulated import SIMULATED
from venue_symbols import SETTINGS
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from mdstream.repair.venues import HISTORIES
from mdstream.repairs import RepairRequest, rest_frame
from mdstream.simulator.server import Options, Simulator
from mdstream.simulator.venues import EXCHANGES
from mdstream.ticks import TradeTick
from mdstream.venues import rest_setting, ws_setting
from mdstream.venues.feed import BAR, OTHER, Provider
from mdstream.venues.past import Page
from mdstream.venues.providers import provider
from mdstream.venues.spans import Span

PATIENCE_S = 30.0


@pytest.fixture
async def address() -> AsyncIterator[str]:
    """HOST:PORT of simulated venues that trade a lot."""
    simulator = Simulator(Options(port=0, rate=2_000.0), print)
    port = await simulator.start()
    yield f"127.0.0.1:{port}"
    await simulator.stop()


def url_of(venue: Provider, address: str) -> str:
    return venue.url({ws_setting(venue.name): f"ws://{address}/{venue.name}{EXCHANGES[venue.name].path}"})


async def begin(address: str, venue: str, kind: str, **parameters: object) -> None:
    """Start a fault."""
    async with aiohttp.ClientSession() as session:
        fault = {"venue": venue, "kind": kind, **parameters}
        assert (await session.post(f"http://{address}/faults", json=fault)).status == 201


async def subscribe(venue: Provider, url: str) -> ClientConnection:
    client = await connect(url, compression=None, max_queue=None)
    login = venue.login(SETTINGS)
    if login is not None:
        await client.send(login.frame)
    for request in venue.subscribe(venue.default_symbols):
        await client.send(request.frame)
        await asyncio.sleep(venue.subscribe_interval_s)
    return client


async def receive_each(venue: Provider, client: ClientConnection) -> list[TradeTick]:
    """Read until every kind of every symbol came, each where it was routed to. The trades."""
    table = {channel.kind for channel in venue.channels} - {OTHER, BAR}
    missing = {(symbol.encode(), kind) for symbol in venue.default_symbols for kind in table}
    trades = []
    async with asyncio.timeout(PATIENCE_S):
        while missing:
            for part in venue.split(await client.recv(decode=False)):
                routed = venue.route(part)
                ticks = venue.decode(part)
                assert {tick.symbol.encode() for tick in ticks if hasattr(tick, "symbol")} <= {routed.key}
                trades += [tick for tick in ticks if isinstance(tick, TradeTick)]
                missing.discard((routed.key, routed.kind))
    return trades


@pytest.mark.parametrize("name", SIMULATED)
async def test_every_kind_arrives_and_arrives_again_after_a_disconnect(name: str, address: str) -> None:
    """A new connection subscribes to everything that the previous one had."""
    venue = provider(name)
    client = await subscribe(venue, url_of(venue, address))
    before = await receive_each(venue, client)
    await begin(address, name, "disconnect")
    with suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await client.recv(decode=False)
    again = await subscribe(venue, url_of(venue, address))
    after = await receive_each(venue, again)
    await again.close()
    first = {symbol: next(t.last_id for t in before if t.symbol == symbol) for symbol in venue.default_symbols}
    assert all(trade.last_id >= first[trade.symbol] for trade in after)


@pytest.mark.parametrize("name", SIMULATED)
async def test_every_kind_arrives_through_a_fault(name: str, address: str) -> None:
    """Faults know the trades of a frame, be it one trade or all of an order."""
    venue = provider(name)
    await begin(address, name, "delay", ms=1)
    client = await subscribe(venue, url_of(venue, address))
    assert len(await receive_each(venue, client)) > 1
    await client.close()


@pytest.mark.parametrize("name", sorted(set(SIMULATED) & HISTORIES.keys()))
async def test_the_history_has_the_trades_that_the_feed_sent(name: str, address: str) -> None:
    """Asked for by id, over HTTP, decoded from the raw frame that repair would publish."""
    venue, history = provider(name), HISTORIES[name]()
    client = await subscribe(venue, url_of(venue, address))
    trade = (await receive_each(venue, client))[-1]
    await client.close()
    request = RepairRequest(trade.symbol, name, trade.id_space, trade.first_id, trade.last_id, 0)
    page = history.ask(request, Span(trade.first_id, trade.last_id))
    assert isinstance(page, Page)
    base = history.base_url({rest_setting(name): f"http://{address}/{name}"})
    async with aiohttp.ClientSession() as session, session.get(base + page.target) as answer:
        body = await answer.read()
        assert answer.status == 200, body
    found, _ = history.read(request, rest_frame(page.target, trade.id_space, body))
    assert sorted(found) == [Span(number, number) for number in range(trade.first_id, trade.last_id + 1)]
