"""Interactive Brokers over a real socket: our link with ib_async itself, against the simulated gateway."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from functools import partial
from pathlib import Path

import pytest
from feed_reader import LIMIT_S, Reader, read_feed, simulated
from ib_async import IB, Contract, Stock
from processes import Processes, free_port, until

from mdstream.errors import FeedError
from mdstream.simulator.actions import Send
from mdstream.simulator.faults.kinds import from_json
from mdstream.simulator.market import Top
from mdstream.venues.ib.feed import Ib
from mdstream.venues.ib.simulated import message

pytestmark = pytest.mark.system


gateway = partial(simulated, "ib")
reading = partial(read_feed, Ib)


async def test_trades_and_quotes_are_those_of_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trade from the first on, in order, with the venue's second; each quote is a top of the market, whole."""
    symbols, journal = ("AAPL", "BRK.B", "ESH26.CME"), tmp_path / "made.jsonl"
    async with gateway(journal) as market:
        listing = market._exchanges["ib"].listing("AAPL", market.now_ns())
        assert listing is not None
        of, tops = listing.instrument, [listing.instrument.top]
        move = of._move

        def remembered() -> Top:
            tops.append(move())
            return tops[-1]

        monkeypatch.setattr(of, "_move", remembered)
        async with reading(market.addresses["ib"], *symbols, "EURUSD.IDEALPRO") as reader:
            await until(lambda: all(len(reader.trades(symbol)) > 50 for symbol in symbols))
            await until(lambda: len(reader.quotes("AAPL")) > 50 and reader.quotes("EURUSD.IDEALPRO"))
            market._production.paused = True
            await asyncio.sleep(0.5)
            session = reader.connection.session
            assert (session.missing, session.rejected) == (set(), set())
    price, size = listing.price, listing.size
    known = {(price(t.bid), size(t.bid_lots), price(t.ask), size(t.ask_lots)) for t in tops}
    shown = [(q.bid, q.bid_size, q.ask, q.ask_size) for q in reader.quotes("AAPL")]
    assert set(shown) <= {tuple(map(float, values)) for values in known}
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    for symbol in symbols:
        made = [(row["price"], row["size"], row["ts_exchange"]) for row in rows if row["symbol"] == symbol]
        assert [(t.price, t.size, t.ts_exchange) for t in reader.trades(symbol)] == made
        assert len({t.trade_id for t in reader.trades(symbol)}) == len(made)
    assert not reader.trades("EURUSD.IDEALPRO")


@pytest.mark.parametrize(
    ("symbols", "rejected", "says"),
    [
        (["MSFT"], {"trade MSFT", "quote MSFT"}, "200 No security definition has been found for the request: name an"),
        (["VOD.LSE"], {"trade VOD.LSE", "quote VOD.LSE"}, "200 2 contracts are called VOD.LSE: VOD.LSE LSE GBP"),
        (["SAP.IBIS"], {"trade SAP.IBIS", "quote SAP.IBIS"}, "354 Requested market data is not subscribed: subscribe"),
        (["SAP.IBIS"], {"trade SAP.IBIS", "quote SAP.IBIS"}, "10189 Failed to request tick-by-tick data"),
        (["A", "B", "C"], {"trade C"}, "10190 Max number of tick-by-tick requests has been reached: all tick-by-tick"),
    ],
)
async def test_what_the_gateway_refuses_is_named_and_stops_nothing_else(
    symbols: list[str], rejected: set[str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """By subscription, in its words, with what to do; the other instrument has its data."""
    listed = ("AAPL", "A", "B", "C", "VOD.LSE", "SAP.IBIS")
    async with (
        gateway(symbols=listed) as market,
        reading(market.addresses["ib"], "AAPL", *symbols) as reader,
    ):
        await until(lambda: reader.connection.session.rejected == rejected)
        await until(lambda: reader.trades("AAPL") and reader.quotes("AAPL"))
        assert says in caplog.text
        assert (reader.connection.session.missing, reader.counters.disconnections) == (set(), 0)


async def test_what_is_unsubscribed_from_frees_its_lines() -> None:
    """Its data stop, those of the other instrument go on."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL", "MSFT") as reader:
        await until(lambda: reader.trades("AAPL") and reader.trades("MSFT"))
        (request,) = reader.provider.subscribe(["MSFT"])
        await reader.connection._dialogue.link.send(str(request.frame).replace('"subscribe"', '"unsubscribe"'))
        session = market._exchanges["ib"].clients[17]  # type: ignore[attr-defined]
        await until(lambda: set(session.requests) == {"AllLast AAPL", "market data AAPL"})
        await asyncio.sleep(0.2)
        gone, count = len(reader.trades("MSFT")), len(reader.trades("AAPL"))
        await until(lambda: len(reader.trades("AAPL")) > count + 10)
        assert len(reader.trades("MSFT")) == gone
        assert set(reader.connection.session.rejected) == set()


async def test_client_id_in_use_is_told_with_the_setting() -> None:
    """Each connection to a gateway needs its own; the first one goes on."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader:
        await until(lambda: reader.trades("AAPL"))
        second = Reader(Ib(), market.addresses["ib"], ["AAPL"], 1, 0.0)
        with pytest.raises(FeedError, match=r"326 Unable to connect .* client id is already in use.*IBKR_CLIENT_ID"):
            await asyncio.wait_for(second.connection.run(), LIMIT_S)
        count = len(reader.trades("AAPL"))
        await until(lambda: len(reader.trades("AAPL")) > count)
        async with reading(market.addresses["ib"] + "?clientId=18", "AAPL") as other:
            await until(lambda: other.quotes("AAPL"))


async def test_no_gateway_is_told_with_what_to_check() -> None:
    """Code 502, of which the socket itself knows nothing."""
    reader = Reader(Ib(), f"ib://127.0.0.1:{free_port()}", ["AAPL"], 1, 0.0)
    with pytest.raises(FeedError, match=r"cannot be reached: 502 .*is TWS or IB Gateway running there, logged in"):
        await asyncio.wait_for(reader.connection.run(), LIMIT_S)


def two_ports() -> int:
    """A free port whose next one is free, too."""
    while True:
        port = free_port()
        with socket.socket() as another:
            if another.connect_ex(("127.0.0.1", port + 1)):
                return port


async def test_a_gateway_that_was_gone_is_asked_for_everything_again() -> None:
    """Killed, and started again: a new connection, with ids that were not used before."""
    port = two_ports()
    async with gateway(port=port) as market:
        url = market.addresses["ib"]
        assert url == f"ib://127.0.0.1:{port + 1}"
        async with reading(url, "AAPL") as reader:
            await until(lambda: reader.trades("AAPL"))
            market._injection.add(from_json(b'{"venue":"ib","kind":"disconnect"}'), market.now_ns())
            await market.stop()
            await until(lambda: reader.counters.disconnections == 1)
            before = len(reader.trades("AAPL"))
            await until(lambda: reader.counters.failed_attempts)
            async with gateway(port=port):
                await until(lambda: len(reader.trades("AAPL")) > before + 10 and reader.ups == 2)
    ids = [trade.trade_id for trade in reader.trades("AAPL")]
    assert len(set(ids)) == len(ids)
    assert len({each.partition("-")[0] for each in ids}) == 2


async def test_data_that_stop_while_the_socket_lives_are_noticed() -> None:
    """As in the venue's nightly restart: answers to the keepalive go on, so only freshness shows it."""
    async with (
        gateway() as market,
        reading(market.addresses["ib"], "AAPL", data_silence_s=1.0) as reader,
    ):
        await until(lambda: reader.connection.freshness.data_limit_s is not None)
        market._injection.add(from_json(b'{"venue":"ib","kind":"stall"}'), market.now_ns())
        await until(lambda: reader.counters.data_silences == 1)
        market._injection.end(market._injection.faults.all()[0], market.now_ns())
        before = len(reader.trades("AAPL"))
        await until(lambda: reader.ups >= 2 and len(reader.trades("AAPL")) > before)


async def test_after_a_loss_of_data_everything_is_asked_for_again(caplog: pytest.LogCaptureFixture) -> None:
    """Connectivity is told. After 1101 the gateway sends nothing more until it is asked, on the same socket."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader:
        await until(lambda: reader.trades("AAPL"))
        (client,) = market._clients
        session = market._exchanges["ib"].clients[17]  # type: ignore[attr-defined]
        client._do([Send(message(4, 2, -1, 1100, "connectivity lost", "")), *session.unsubscribe(list(session.topics))])
        session.requests.clear()
        client._do([Send(message(4, 2, -1, 1101, "connectivity restored - data lost", ""))])
        before = len(reader.trades("AAPL"))
        await until(lambda: len(reader.trades("AAPL")) > before + 10)
        assert "announced: 1100 connectivity lost: no data until it is back" in caplog.text
        assert "announced: 1101 connectivity restored - data lost: everything is asked for again" in caplog.text
        assert reader.counters.disconnections == 0


async def test_a_message_that_the_library_cannot_decode_is_not_lost_in_silence() -> None:
    """It is counted and becomes a dead letter; what follows is read."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader:
        await until(lambda: reader.trades("AAPL"))
        (client,) = market._clients
        client._do([Send(message(99, 1, 2, 1_767_625_200, "abc"))])
        await until(lambda: reader.counters.not_understood == 1)


async def test_mdstream_simulate_serves_a_gateway(tmp_path: Path) -> None:
    """At the port after its own, unless both are free ones; it prints the variable."""
    with Processes(tmp_path) as processes:
        process = processes.mdstream("simulate", "--port", 0, "--venues", "ib,okx", "--rate", 50)
        process.wait_for("export OKX_WS_URL=")
        (url,) = re.findall(r"export IB_WS_URL=(ib://127\.0\.0\.1:\d+)\n", process.output())
        async with reading(url, "AAPL") as reader:
            await until(lambda: reader.trades("AAPL") and reader.quotes("AAPL"))
        assert process.stop() == 0


async def test_the_whole_library_works_with_the_gateway() -> None:
    """Its class IB asks for positions, orders and accounts, too, and looks contracts up."""
    async with gateway() as market:
        ib, (host, _, port) = IB(), market.addresses["ib"].removeprefix("ib://").partition(":")
        await ib.connectAsync(host, int(port), clientId=5, timeout=10, raiseSyncErrors=True)
        (contract,) = await ib.qualifyContractsAsync(Stock("AAPL", "SMART", "USD"))
        assert isinstance(contract, Contract)
        ticker = ib.reqTickByTickData(contract, "BidAsk")
        await until(lambda: ticker.hasBidAsk())
        assert ib.cancelTickByTickData(contract, "BidAsk")
        assert (await ib.reqCurrentTimeAsync()).year >= 2026
        ib.disconnect()
        await until(lambda: not market._clients)
