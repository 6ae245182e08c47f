"""Past bars and trades of Interactive Brokers: our client with ib_async itself, against the simulated gateway."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

import pytest
from feed_reader import Reader, read_feed, simulated
from ib_async import IB, Stock
from msgspec.structs import replace
from processes import free_port, until
from test_ib import two_ports

from mdstream.errors import SettingsError
from mdstream.repairs import rest_frame
from mdstream.simulator.actions import Send
from mdstream.simulator.candles import candles
from mdstream.simulator.faults.kinds import from_json
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import Listing
from mdstream.simulator.server import Simulator
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.ib import client as client_module
from mdstream.venues.ib import simulated as simulated_gateway
from mdstream.venues.ib.client import IbClient
from mdstream.venues.ib.feed import Ib
from mdstream.venues.ib.simulated import CHANNELS, IbSession, message
from mdstream.venues.ib.simulated import Ib as Exchange
from mdstream.venues.ib.timed import IbTimed
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.timed import TRADES

pytestmark = pytest.mark.system

S = 1_000_000_000
NOW_S = 1_767_625_200

gateway = partial(simulated, "ib")
reading = partial(read_feed, Ib)


@asynccontextmanager
async def client(market: Simulator, *, live_id: int = 17) -> AsyncIterator[IbClient]:
    """A client of the gateway, closed at the end."""
    of = IbClient(f"{market.addresses['ib']}?clientId={live_id}")
    try:
        yield of
    finally:
        await of.close()


def exchange(market: Simulator) -> Exchange:
    found = market._exchanges["ib"]
    assert isinstance(found, Exchange)
    return found


def page(symbol: str, interval: str, begin_s: int, end_s: int) -> str:
    found = IbTimed().ask(symbol, interval, begin_s * S, end_s * S)
    assert isinstance(found, Page)
    return found.target


async def got(of: IbClient, symbol: str, interval: str, begin_s: int, end_s: int) -> list[BarTick]:
    """The bars of a window, by way of the raw frame, as the canonical stream reads them; asked for until there is an
    answer, as a backfill does."""
    target = page(symbol, interval, begin_s, end_s)
    answer = await of.get(target)
    while isinstance(answer, RetryableError):
        await asyncio.sleep(0.1)
        answer = await of.get(target)
    assert IbTimed().judge(answer, now_s=0.0) is None
    return [t for t in IbTimed().read(symbol, rest_frame(target, interval, answer.body)) if isinstance(t, BarTick)]


def made(market: Simulator, symbol: str, interval: str, interval_s: int, begin_s: int, end_s: int) -> list[BarTick]:
    """The same bars by the market's own fills."""
    of = exchange(market).listings[symbol]
    found = []
    for c in candles(of.instrument.tape, interval_s * S, begin_s * S, end_s * S):
        opened, high, low, close = (float(of.price(ticks)) for ticks in (c.open, c.high, c.low, c.close))
        volume = float(of.size(c.lots))
        found.append(BarTick(symbol, interval, c.ts_open_ns, opened, high, low, close, volume, trades=c.count))
    return found


async def traded(market: Simulator, reader: Reader, symbol: str = "AAPL", seconds: int = 4) -> tuple[int, int]:
    """Some seconds in which the symbol was traded, all over; the market is paused then."""
    await until(lambda: reader.trades(symbol))
    begin_s = (reader.trades(symbol)[0].ts_exchange or 0) // S
    await until(lambda: market.now_ns() > (begin_s + seconds + 1) * S)
    market._production.paused = True
    return begin_s, begin_s + seconds


async def test_past_bars_are_those_of_the_market_beside_the_live_feed() -> None:
    """All of a window and no others, of any size, over a second connection with the next client id, without a
    violation of the venue's rules."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader, client(market) as of:
        begin_s, end_s = await traded(market, reader)
        bars = await got(of, "AAPL", "1s", begin_s, end_s)
        assert bars == made(market, "AAPL", "1s", 1, begin_s, end_s)
        assert bars
        assert set(exchange(market).clients) == {17, 18}
        day_s = begin_s // 86_400 * 86_400
        hours = await got(of, "AAPL", "1h", day_s - 3 * 86_400, day_s + 86_400)  # asked for in days
        assert hours == made(market, "AAPL", "1h", 3_600, day_s, day_s + 86_400)
        assert hours
        assert not await got(of, "AAPL", "1s", begin_s - 100, begin_s)  # 162: no data
        assert exchange(market).counts() == {"history_requests": 3, "pacing_violations": 0}
        assert market.status()["own"] == {"ib": {"history_requests": 3, "pacing_violations": 0}}
        assert reader.counters.disconnections == 0


async def test_many_requests_at_once_break_no_rule() -> None:
    """Of several instruments, from tasks that know nothing of one another."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL", "MSFT") as reader, client(market) as of:
        begin_s, _ = await traded(market, reader, seconds=2)
        await until(lambda: reader.trades("MSFT"))
        windows = [(symbol, begin_s - n) for n in range(6) for symbol in ("AAPL", "MSFT")]
        found = await asyncio.gather(*(got(of, symbol, "1s", at_s, at_s + 2) for symbol, at_s in windows))
        for (symbol, at_s), bars in zip(windows, found, strict=True):
            assert bars == made(market, symbol, "1s", 1, at_s, at_s + 2)
        assert exchange(market).counts() == {"history_requests": 12, "pacing_violations": 0}


@pytest.mark.parametrize(
    ("symbol", "says"),
    [
        ("TSLA", "200 No security definition has been found for the request: name an instrument that the venue has"),
        ("VOD.LSE", "200 2 contracts are called VOD.LSE: VOD.LSE LSE GBP"),
        ("SAP.IBIS", "162 .*No market data permissions for IBIS STK: subscribe to these data in the venue's client"),
    ],
)
async def test_what_the_gateway_refuses_for_good_is_told_with_what_to_do(symbol: str, says: str) -> None:
    """No contract, several with their names, no subscription."""
    async with gateway(symbols=("AAPL", "VOD.LSE", "SAP.IBIS")) as market, client(market) as of:
        answer = await of.get(page(symbol, "1m", NOW_S, NOW_S + 60))
        assert isinstance(answer, Answer)
        verdict = IbTimed().judge(answer, now_s=0.0)
        assert isinstance(verdict, PermanentError)
        assert re.match(says, verdict.reason)


async def test_a_violation_by_others_of_the_same_user_waits() -> None:
    """The rules count all clients of the gateway: ours is refused, and told when to come again."""
    async with gateway(symbols=("AAPL",)) as market, client(market) as ours, client(market, live_id=30) as other:
        target = page("AAPL", "1m", NOW_S, NOW_S + 60)
        assert isinstance(await other.get(target), Answer)
        refused = await ours.get(target)
        assert isinstance(refused, RetryableError)
        assert "162" in refused.reason
        assert "pacing violation" in refused.reason
        assert refused.wait_s == 60.0
        assert market.status()["own"] == {"ib": {"history_requests": 2, "pacing_violations": 1}}


async def test_client_ids_in_use_are_passed_over() -> None:
    """Up to the last of five; then it is told which setting decides."""
    async with gateway(symbols=("AAPL",)) as market:
        clients = [IbClient(market.addresses["ib"]) for _ in range(6)]
        answers = [
            await of.get(page("AAPL", "1m", NOW_S + 60 * n, NOW_S + 60 * n + 60)) for n, of in enumerate(clients)
        ]
        assert set(exchange(market).clients) == {18, 19, 20, 21, 22}
        assert all(isinstance(answer, Answer) for answer in answers[:5])
        last = answers[5]
        assert isinstance(last, RetryableError)
        assert "326 Unable to connect as the client id is already in use" in last.reason
        assert "IBKR_CLIENT_ID" in last.reason
        for of in clients:
            await of.close()


async def test_a_gateway_that_restarts_is_asked_again_for_what_was_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed while it owed an answer: that is said, so is each attempt without it; then the window comes whole."""
    port = two_ports()
    async with gateway(port=port) as market, reading(market.addresses["ib"], "AAPL") as reader, client(market) as of:
        begin_s, end_s = await traded(market, reader)
        assert await got(of, "AAPL", "1s", begin_s, begin_s + 1)  # connected, and its contract is known
        with monkeypatch.context() as patch:
            patch.setattr(IbSession, "_history", lambda *_: [])
            asking = asyncio.create_task(of.get(page("AAPL", "1s", begin_s, end_s)))
            await until(lambda: of._connection is not None and of._connection._open)
            market._injection.add(from_json(b'{"venue":"ib","kind":"disconnect"}'), market.now_ns())
            lost = await asking
        assert isinstance(lost, RetryableError)
        assert lost.reason == "504 not connected: the gateway has closed the connection"
        assert await got(of, "AAPL", "1s", begin_s, end_s) == made(market, "AAPL", "1s", 1, begin_s, end_s)
        assert exchange(market).pace.violations == 0
    gone = await of.get(page("AAPL", "1s", begin_s, begin_s + 2))
    assert isinstance(gone, RetryableError)
    assert "502" in gone.reason
    assert "is TWS or IB Gateway running there" in gone.reason
    async with gateway(port=port, symbols=("AAPL",)) as market:
        assert await got(of, "AAPL", "1s", begin_s, begin_s + 3) == []  # this market is new
        await of.close()


async def told_to_all(market: Simulator, code: int, text: str) -> None:
    for each in list(market._clients):
        each._do([Send(message(4, 2, -1, code, text, ""))])


BROKEN = (2105, "HMDS data farm connection is broken:ushmds")
LOST = (1100, "Connectivity between IBKR and TWS has been lost.")


@pytest.mark.parametrize(
    ("broken", "well"),
    [
        (BROKEN, (2106, "HMDS data farm connection is OK:ushmds")),
        (BROKEN, (2107, "HMDS data farm connection is inactive but should be available upon demand.ushmds")),
        (LOST, (1102, "Connectivity between IBKR and TWS has been restored- data maintained.")),
        (LOST, (1101, "Connectivity between IBKR and TWS has been restored- data lost.")),
    ],
)
async def test_nothing_is_asked_for_while_the_gateway_is_cut_off(
    broken: tuple[int, str], well: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty answer would look like a time without trades. After a while it is told what is wrong, and the connection
    made anew."""
    async with gateway(symbols=("AAPL",)) as market, client(market) as of:
        assert isinstance(await of.get(page("AAPL", "1m", NOW_S, NOW_S + 60)), Answer)
        connection = of._connection
        assert connection is not None
        await told_to_all(market, *broken)
        await until(lambda: connection._broken)
        asking = asyncio.create_task(of.get(page("AAPL", "1m", NOW_S, NOW_S + 120)))
        await told_to_all(market, 2106, "HMDS data farm connection is OK:euhmds")  # another farm
        await until(lambda: connection._changed.is_set() is False)
        assert not asking.done()
        await told_to_all(market, *well)
        assert isinstance(await asking, Answer)
        assert exchange(market).pace.requests == 2
        await told_to_all(market, *broken)
        await until(lambda: connection._broken)
        with monkeypatch.context() as patch:
            patch.setattr(client_module, "FARM_LIMIT_S", 0.1)
            refused = await of.get(page("AAPL", "1m", NOW_S, NOW_S + 180))
        assert isinstance(refused, RetryableError)
        assert refused.reason.startswith(f"{broken[0]} {broken[1].rstrip('.')}")
        assert exchange(market).pace.requests == 2
        assert isinstance(await of.get(page("AAPL", "1m", NOW_S, NOW_S + 180)), Answer)
        assert of._connection is not connection


async def test_a_gateway_that_has_just_started_is_heard_before_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its servers may come later than its socket: it says so when a client connects."""
    monkeypatch.setattr(simulated_gateway, "FARMS", dict([BROKEN]))
    async with gateway(symbols=("AAPL",)) as market, client(market) as of:
        asking = asyncio.create_task(of.get(page("AAPL", "1m", NOW_S, NOW_S + 60)))
        await until(lambda: of._contracts)
        assert of._connection is not None
        assert of._connection._broken
        assert exchange(market).pace.requests == 0
        await told_to_all(market, 2106, "HMDS data farm connection is OK:ushmds")
        assert isinstance(await asking, Answer)


async def test_what_the_venue_has_forgotten_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """By 1101: no answer would come. A competing session ends a request, and is asked again slowly; a warning with the
    request's number does not end it."""
    async with gateway(symbols=("AAPL",)) as market, client(market) as of:
        for number, (code, wait_s) in enumerate([(1101, None), (10197, 60.0)], 1):
            with monkeypatch.context() as patch:
                patch.setattr(IbSession, "_history", lambda *_: [])
                asking = asyncio.create_task(of.get(page("AAPL", "1m", NOW_S, NOW_S + 60 * number)))
                await until(lambda: of._connection is not None and of._connection._open and of._contracts)
            assert of._connection is not None
            (request,) = of._connection._open
            session = exchange(market).clients[18]
            (each,) = [one for one in market._clients if one._session is session]
            each._do([Send(message(4, 2, request, 2176, "Warning: fractional share size rules", ""))])
            each._do([Send(message(4, 2, -1 if code == 1101 else request, code, "as it says", ""))])
            found = await asking
            assert isinstance(found, RetryableError)
            assert (found.reason.partition(":")[0], found.wait_s) == (f"{code} as it says", wait_s)


async def test_a_gateway_that_does_not_answer_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt makes a new connection: the gateway may be gone without a word. What cannot be read is told."""
    async with gateway(symbols=("AAPL",)) as market, client(market) as of:
        with monkeypatch.context() as patch:
            patch.setattr(client_module, "ANSWER_LIMIT_S", 1.0)
            patch.setattr(IbSession, "_history", lambda *_: [])
            found = await of.get(page("AAPL", "1m", NOW_S, NOW_S + 60))
            assert found == RetryableError("no answer from the gateway for 1 s")
            silent = of._connection
        assert isinstance(await of.get(page("AAPL", "1m", NOW_S, NOW_S + 90)), Answer)
        assert of._connection is not silent
        monkeypatch.setattr(
            IbSession, "_history", lambda _, request, *__: [Send(message(17, request, "", "", 1, "1767625200", "abc"))]
        )
        unread = await of.get(page("AAPL", "1m", NOW_S, NOW_S + 120))
        assert isinstance(unread, RetryableError)
        assert unread.reason.startswith("ib_async could not decode a message: ")


async def test_an_address_that_is_none_is_refused() -> None:
    """Before anything is asked."""
    with pytest.raises(SettingsError, match="expected ib://HOST:PORT"):
        IbClient("http://127.0.0.1:4002")
    of = IbClient(f"ib://127.0.0.1:{free_port()}")
    assert isinstance(await of.get(page("AAPL", "1m", NOW_S, NOW_S + 60)), RetryableError)
    await of.close()


async def test_the_whole_library_reads_past_bars_too() -> None:
    """With its own class, its dates, and an end that is now."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader:
        begin_s, end_s = await traded(market, reader)
        ib, (host, _, port) = IB(), market.addresses["ib"].removeprefix("ib://").partition(":")
        await ib.connectAsync(host, int(port), clientId=5, timeout=10, raiseSyncErrors=True)
        bars = await ib.reqHistoricalDataAsync(Stock("AAPL", "SMART", "USD"), "", "600 S", "1 secs", "TRADES", False)
        assert [(bar.open, bar.barCount) for bar in bars] == [
            (bar.open, bar.trades) for bar in made(market, "AAPL", "1s", 1, begin_s, end_s + 600)
        ]
        ib.disconnect()


async def past(of: IbClient, symbol: str, begin_s: int, end_s: int) -> list[list[TradeTick]]:
    """The trades on each page of a time, read as those of `got`."""
    timed, found = IbTimed(), []
    asked: Page | PermanentError | None = timed.ask(symbol, TRADES, begin_s * S, end_s * S)
    while asked is not None:
        assert isinstance(asked, Page)
        answer = await of.get(asked.target)
        while isinstance(answer, RetryableError):
            await asyncio.sleep(0.1)
            answer = await of.get(asked.target)
        assert timed.judge(answer, now_s=0.0) is None
        ticks = timed.read(symbol, rest_frame(asked.target, TRADES, answer.body))
        found.append([tick for tick in ticks if isinstance(tick, TradeTick)])
        asked = timed.more(asked, answer.body)
    return found


def busy(market: Simulator) -> Listing:
    """A stock with more trades than a page before now, and with more than that in one second."""
    begin_s = market.now_ns() // S - 100
    found = exchange(market).listing("AAPL", begin_s * S)
    assert found is not None
    for number in range(1_200):
        found.instrument.order(begin_s * S + number * S // 40)
    for _ in range(1_000):
        found.instrument.order((begin_s + 31) * S)
    for number in range(800):
        found.instrument.order((begin_s + 40) * S + number * S // 80)
    return found


def content(tick: TradeTick) -> tuple[object, ...]:
    """All but the id, and how it came."""
    return tick.symbol, tick.ts_exchange, tick.price, tick.size, tick.side, tick.venue, tick.conditions


def filled(of: Listing, fill: Fill) -> tuple[object, ...]:
    """The same by the market's own fill."""
    at_ns = fill.ts_ns // S * S
    return of.symbol, at_ns, float(of.price(fill.ticks)), float(of.size(fill.lots)), None, "NASDAQ", ("@", "TI")


async def test_past_trades_are_those_of_the_live_feed() -> None:
    """Each once, with ids of their own, which do not depend on where a page begins."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader, client(market) as of:
        begin_s, end_s = await traded(market, reader)
        await until(lambda: (reader.trades("AAPL")[-1].ts_exchange or 0) >= end_s * S)  # those before it have come
        live = [t for t in reader.trades("AAPL") if begin_s * S < (t.ts_exchange or 0) < end_s * S]
        (trades,) = await past(of, "AAPL", begin_s + 1, end_s)
        assert trades
        assert [content(tick) for tick in trades] == [content(tick) for tick in live]
        assert len({tick.trade_id for tick in trades}) == len(trades)
        assert all(tick.recovered for tick in trades)
        (later,) = await past(of, "AAPL", begin_s + 2, end_s)
        assert later == [tick for tick in trades if (tick.ts_exchange or 0) >= (begin_s + 2) * S]


async def test_past_trades_go_on_where_the_connection_was_cut() -> None:
    """Page by page, each once, also of a second that has more than a page; what was open is asked for again, without a
    violation of the venue's rules."""
    async with gateway() as market, client(market) as of:
        listing, now_s = busy(market), market.now_ns() // S
        market._injection.add(from_json(b'{"venue":"ib","kind":"disconnect","every_s":0.5}'), market.now_ns())
        pages = await past(of, "AAPL", now_s - 110, now_s)
        tape = listing.instrument.tape
        fills = [filled(listing, fill) for fill in tape.fills(tape.first_id, tape.next_id)]
        assert [content(tick) for page in pages for tick in page] == fills
        assert len({tick.trade_id for page in pages for tick in page}) == len(fills)
        assert len(pages) > 3
        assert any(len({tick.ts_exchange for tick in page}) == 1 and len(page) > 1_000 for page in pages)
        assert market._injection.faults.all()[0].counts["connections"] > 0
        assert exchange(market).pace.violations == 0


async def test_past_trades_are_found_over_nights_without_any() -> None:
    """An answer has one trading session; bars say where the next one with trades begins."""
    async with gateway(symbols=("AAPL",)) as market, client(market) as of:
        today_s = market.now_ns() // S // 86_400 * 86_400
        listing = exchange(market).listing("AAPL", (today_s - 30 * 86_400) * S)
        assert listing is not None
        for second in (-20 * 86_400, -20 * 86_400 + 5, -9 * 86_400 + 899, -86_400 - 1, -86_400, -86_400 + 60_000):
            listing.instrument.order((today_s + second) * S)
        pages = await past(of, "AAPL", today_s - 40 * 86_400, today_s)
        tape = listing.instrument.tape
        fills = list(tape.fills(tape.first_id, tape.next_id))
        assert [content(tick) for page in pages for tick in page] == [filled(listing, fill) for fill in fills]
        assert exchange(market).pace.violations == 0
        assert await past(of, "AAPL", today_s - 300, today_s) == [[]]


async def test_a_live_trade_of_before_the_first_one_has_the_id_of_a_past_one() -> None:
    """So that the canonical stream knows it, should history bring it, too. All others have their connection's."""
    async with gateway() as market, client(market) as of:
        before_s = market.now_ns() // S - 10
        listing = exchange(market).listing("AAPL", before_s * S)
        assert listing is not None
        order = listing.instrument.order(before_s * S)
        async with reading(market.addresses["ib"], "AAPL") as reader:
            await traded(market, reader, seconds=1)
            (link,) = market._clients
            (late,) = CHANNELS["AllLast"].encode(listing, order)[:1]
            link._do([Send(late), Send(late)])
            await until(lambda: sum(tick.ts_exchange == before_s * S for tick in reader.trades("AAPL")) == 2)
            *in_time, first, second = reader.trades("AAPL")
        ((known, *_),) = await past(of, "AAPL", before_s, before_s + 1)
        assert first == replace(known, recovered=False)
        assert second.trade_id == known.trade_id.removesuffix("-1") + "-2"
        assert all(".17-" in tick.trade_id for tick in in_time)


async def test_the_whole_library_reads_past_trades_too() -> None:
    """With its own class."""
    async with gateway() as market, reading(market.addresses["ib"], "AAPL") as reader, client(market) as of:
        begin_s, end_s = await traded(market, reader)
        ib, (host, _, port) = IB(), market.addresses["ib"].removeprefix("ib://").partition(":")
        await ib.connectAsync(host, int(port), clientId=5, timeout=10, raiseSyncErrors=True)
        begin = datetime.fromtimestamp(begin_s, UTC)
        found = await ib.reqHistoricalTicksAsync(Stock("AAPL", "SMART", "USD"), begin, "", 1_000, "TRADES", False)
        ib.disconnect()
        (ours,) = await past(of, "AAPL", begin_s, end_s)
        seen = [(int(tick.time.timestamp()) * S, getattr(tick, "price", None)) for tick in found]
        assert [each for each in seen if each[0] < end_s * S] == [(tick.ts_exchange, tick.price) for tick in ours]
