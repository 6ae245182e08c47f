"""Every venue's past by time against its own simulated REST interface: its bars are those of the trades, its trades
those of the feed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from test_venue_simulated import NOW_NS, SIMULATED, Connection, price, size, trades

from mdstream.bars.rules import interval as interval_named
from mdstream.repair.venues import TIMED
from mdstream.repairs import rest_frame
from mdstream.simulator.candles import candles
from mdstream.simulator.listing import Kind, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.rest import Budget
from mdstream.simulator.venues import RESTS
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.past import Page
from mdstream.venues.providers import provider
from mdstream.venues.rest import Answer, PermanentError
from mdstream.venues.timed import TRADES, Timed

PLENTY = Budget(1_000_000, 1.0)
ORDER_EVERY_NS = 17 * SECOND_NS
WITH_A_PAST = [venue for venue in SIMULATED if venue in TIMED and not provider(venue).credentials]
"""Those with keys have tests of their own."""
BARS = [(venue, interval) for venue in WITH_A_PAST for interval in TIMED[venue].intervals]
WITH_TRADES = [venue for venue in WITH_A_PAST if TIMED[venue].trades is not None]


class Past:
    """A venue of which one instrument was traded, and how its past is asked for."""

    def __init__(self, venue: str, orders: int) -> None:
        self.connection = Connection(venue)
        symbol = self.connection.provider.to_venue(self.connection.symbol)
        found = self.connection.exchange.listing(symbol, NOW_NS)
        assert found is not None
        self.listing: Listing = found
        self.timed: Timed = TIMED[venue]()
        self.rest = RESTS[venue](self.connection.exchange, PLENTY)
        (_, read), *_ = (of for of in self.connection.of(Kind.TRADE) if of[0].channel.trades)
        made = [found.instrument.order(NOW_NS + number * ORDER_EVERY_NS) for number in range(orders)]
        self.live = [tick for order in made for tick in trades(read(order))]
        self.first_ns, self.last_ns = made[0].ts_ns, made[-1].ts_ns

    def frames(self, interval: str, begin_ns: int, end_ns: int, now_ns: int) -> Iterator[bytes]:
        """What a backfill would publish of a window."""
        page: Page | PermanentError | None = self.timed.ask(self.connection.symbol, interval, begin_ns, end_ns)
        while page is not None:
            assert isinstance(page, Page)
            path, _, query = page.target.partition("?")
            answer = self.rest.get(path, query, now_ns)
            assert (answer.status, self.timed.judge(Answer(answer.status, {}, answer.body), now_s=0.0)) == (200, None)
            yield rest_frame(page.target, interval, answer.body)
            page = self.timed.more(page, answer.body)


@pytest.mark.parametrize(("venue", "interval"), BARS)
def test_bars_are_what_was_traded(venue: str, interval: str) -> None:
    """Each closed interval with trades has one, of the fills of the tape; none is open, none without a trade.

    The window is as long as it may be, so that one answer has all of it; its end is now.
    """
    past, each_ns = Past(venue, 300), interval_named(interval).ns
    end_ns = (past.last_ns // each_ns + 1) * each_ns
    begin_ns = max(past.first_ns // each_ns * each_ns, end_ns - (past.timed.bars.rows - 1) * each_ns)
    (frame,) = past.frames(interval, begin_ns, end_ns, end_ns)
    of, got = past.listing, {}
    for bar in past.timed.read(past.connection.symbol, frame):
        assert isinstance(bar, BarTick)
        assert bar.ts_open not in got
        got[bar.ts_open] = bar
    for candle in candles(of.instrument.tape, each_ns, begin_ns, end_ns):
        bar, unit = got.pop(candle.ts_open_ns), 10 ** (of.instrument.price_decimals + of.instrument.size_decimals)
        assert (bar.symbol, bar.interval) == (past.connection.symbol, interval)
        assert (bar.open, bar.high) == (price(of, candle.open), price(of, candle.high))
        assert (bar.low, bar.close) == (price(of, candle.low), price(of, candle.close))
        assert bar.volume == size(of, candle.lots)
        assert bar.quote_volume in (None, pytest.approx(candle.turnover / unit))
        assert bar.trades in (None, candle.count)
    assert got == {}


@pytest.mark.parametrize("venue", WITH_A_PAST)
def test_windows_that_follow_one_another_have_all_bars_once(venue: str) -> None:
    """A bar at the beginning of a window is in it, and one at its end is not, as far as the venue lets us say so."""
    past, each_ns = Past(venue, 40), interval_named("1m").ns
    begin_ns, end_ns = past.first_ns // each_ns * each_ns, past.last_ns // each_ns * each_ns
    found = []
    for at_ns in range(begin_ns, end_ns, 3 * each_ns):
        window = at_ns, min(at_ns + 3 * each_ns, end_ns)
        for frame in past.frames("1m", *window, past.last_ns):
            bars = [bar for bar in past.timed.read(past.connection.symbol, frame) if isinstance(bar, BarTick)]
            found += sorted(bar.ts_open for bar in bars if window[0] <= bar.ts_open < window[1])
    tape = past.listing.instrument.tape
    assert found == [candle.ts_open_ns for candle in candles(tape, each_ns, begin_ns, end_ns)]


@pytest.mark.parametrize("venue", WITH_A_PAST)
def test_bars_that_a_venue_does_not_have_are_not_asked_for(venue: str) -> None:
    """No request, but the reason."""
    timed = TIMED[venue]()
    found = timed.ask(provider(venue).default_symbols[0], "7m", 0, 60 * SECOND_NS)
    assert found == PermanentError(f"{venue} has no past bars of 7m")


@pytest.mark.parametrize("venue", WITH_A_PAST)
def test_an_instrument_that_the_venue_does_not_list_is_refused_for_good(venue: str) -> None:
    """By the venue's own word."""
    connection, timed = Connection(venue, []), TIMED[venue]()
    page = timed.ask(connection.symbol, "1m", 0, 60 * SECOND_NS)
    assert isinstance(page, Page)
    path, _, query = page.target.partition("?")
    answer = RESTS[venue](connection.exchange, PLENTY).get(path, query, NOW_NS)
    assert isinstance(timed.judge(Answer(answer.status, {}, answer.body), now_s=0.0), PermanentError)


@pytest.mark.parametrize("venue", WITH_TRADES)
def test_trades_are_those_of_the_feed(venue: str) -> None:
    """By pages, oldest first, all from the beginning of the window on; every field is the live
    trade's, but that a time may be a microsecond later."""
    past = Past(venue, 1_500)
    begin_ns = past.first_ns + 10 * ORDER_EVERY_NS
    pages = [
        [tick for tick in past.timed.read(past.connection.symbol, frame) if isinstance(tick, TradeTick)]
        for frame in past.frames(TRADES, begin_ns, past.last_ns, past.last_ns)
    ]
    assert len(pages) > 2
    got = {tick.trade_id: tick for page in pages for tick in page}
    expected = [tick for tick in past.live if (tick.ts_exchange or 0) >= begin_ns - begin_ns % 1_000]
    assert list(got) == [tick.trade_id for tick in expected]
    for tick in expected:
        found = got[tick.trade_id]
        assert found.recovered
        assert (found.ts_exchange or 0) - (tick.ts_exchange or 0) in (0, 1_000)
        assert replace(found, recovered=False, ts_exchange=tick.ts_exchange) == tick
