"""IQFeed over a real socket: a feed's connection against the simulated IQConnect."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path

import pytest
from feed_reader import check_that_symbols_come_and_go, read_feed, simulated
from processes import free_port, until

from mdstream.simulator.actions import Send
from mdstream.venues.iqfeed.feed import Iqfeed

pytestmark = pytest.mark.system

iqconnect = partial(simulated, "iqfeed")
reading = partial(read_feed, Iqfeed)


async def test_trades_and_quotes_are_those_of_the_market(tmp_path: Path) -> None:
    """Every trade from the first on, in order, with the venue's microsecond; the password is not kept."""
    symbols, journal = ("AAPL", "BRK.B", "@ESH26.IQFEED", "EURUSD.FXCM"), tmp_path / "made.jsonl"
    async with iqconnect(journal) as market, reading(market.addresses["iqfeed"], *symbols) as reader:
        await until(lambda: all(len(reader.trades(s)) > 50 and len(reader.quotes(s)) > 50 for s in symbols))
        market._production.paused = True
        await asyncio.sleep(0.5)
        session = reader.connection.session
        assert (session.missing, session.rejected, reader.counters.not_understood) == (set(), set(), 0)
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    for symbol in symbols:
        made = [
            (r["trade_id"], r["price"], r["size"], r["side"], r["ts_exchange"]) for r in rows if r["symbol"] == symbol
        ]
        assert [(t.trade_id, t.price, t.size, t.side, t.ts_exchange) for t in reader.trades(symbol)] == made
    assert not [frame for frame in reader.raw if b"password" in frame]


async def test_what_is_refused_is_named_and_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    """By symbol, with what to do."""
    async with iqconnect(symbols=("AAPL",)) as market, reading(market.addresses["iqfeed"], "FOO", "AAPL") as reader:
        await until(lambda: reader.connection.session.rejected == {"FOO"})
        await until(lambda: reader.trades("AAPL") and reader.quotes("AAPL"))
        (client,) = market._clients
        client._do([Send("S,SYMBOL LIMIT REACHED,AAPL"), Send("S,SERVER DISCONNECTED"), Send("S,KEY EXPIRED")])
        await until(lambda: "KEY EXPIRED: the key has expired: restart IQConnect" in caplog.text)
        assert "FOO: no such symbol (rejected: FOO)" in caplog.text
        assert "SYMBOL LIMIT REACHED, AAPL: the plan has no more symbols" in caplog.text
        assert "SERVER DISCONNECTED: IQConnect has lost its servers" in caplog.text
        assert reader.counters.disconnections == 0


async def test_symbols_come_and_go() -> None:
    """A watch that ends sends no more, the other goes on."""
    async with iqconnect() as market, reading(market.addresses["iqfeed"], "AAPL", "MSFT") as reader:
        await check_that_symbols_come_and_go(reader)


async def test_iqconnect_that_is_not_there_yet_is_awaited() -> None:
    """And everything is watched again after it has been away."""
    port = free_port()
    async with reading(f"tcp://127.0.0.1:{port}", "AAPL") as reader:
        await until(lambda: reader.counters.failed_attempts)
        async with iqconnect() as market:
            reader.connection._url = market.addresses["iqfeed"]
            await until(lambda: reader.trades("AAPL"))
            (client,) = market._clients
            client.abort()
            before = len(reader.trades("AAPL"))
            await until(lambda: reader.ups == 2 and len(reader.trades("AAPL")) > before + 10)
