"""The past of Alpaca and Massive against their simulated REST interfaces: all that was traded, by pages, with a key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace
from test_venue_simulated import NOW_NS, Connection, price, size, trades
from venue_symbols import SETTINGS

from mdstream.repair.venues import TIMED
from mdstream.repairs import rest_frame
from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.listing import Kind, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.rest import Rest
from mdstream.simulator.venues import RESTS
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer
from mdstream.venues.timed import TRADES, Timed

VENUES = ("alpaca", "alpaca_crypto", "massive")
MINUTE_NS = 60 * SECOND_NS
SPAN_NS = 5 * 60 * MINUTE_NS
BEGIN_NS = NOW_NS // (60 * MINUTE_NS) * 60 * MINUTE_NS
INTERVALS = {"1m": MINUTE_NS, "5m": 5 * MINUTE_NS, "15m": 15 * MINUTE_NS, "30m": 30 * MINUTE_NS, "1h": 60 * MINUTE_NS}


class Past:
    """A venue that was traded for five hours, with a minute of silence in each three, and how its past is asked for."""

    def __init__(self, venue: str, rows: int = 0) -> None:
        self.connection = Connection(venue)
        found = self.connection.exchange.listing(self.connection.provider.to_venue(self.connection.symbol), NOW_NS)
        assert found is not None
        self.listing: Listing = found
        (self.topic, self.read), *_ = (each for each in self.connection.of(Kind.TRADE) if each[0].channel.trades)
        self.live: list[TradeTick] = []
        for second in range(0, SPAN_NS // SECOND_NS, 20):
            if second // 60 % 3:
                at_ns = BEGIN_NS + second * SECOND_NS + 123_456_789
                self.live += trades(self.read(self.listing.instrument.order(at_ns)))
        self.timed: Timed = _small(venue, rows)
        self.rest: Rest = RESTS[venue](self.connection.exchange)
        self.headers = {name.lower(): value for name, value in self.timed.headers(SETTINGS).items()}

    def page(self, interval: str, begin_ns: int, end_ns: int) -> Page:
        """The first one of a window."""
        page = self.timed.ask(self.connection.symbol, interval, begin_ns, end_ns)
        assert isinstance(page, Page)
        return page

    def frames(self, interval: str, begin_ns: int, end_ns: int) -> Iterator[bytes]:
        """What a backfill publishes of a window."""
        page: Page | None = self.page(interval, begin_ns, end_ns)
        now_ns = BEGIN_NS + SPAN_NS
        while page is not None:
            path, _, query = page.target.partition("?")
            now_ns += 15 * SECOND_NS  # as slowly as the limits want it
            answer = self.rest.get(path, query, now_ns, self.headers)
            assert (answer.status, self.timed.judge(Answer(answer.status, {}, answer.body), now_s=0.0)) == (200, None)
            yield rest_frame(page.target, interval, answer.body)
            page = self.timed.more(page, answer.body)

    def bars(self, interval: str, begin_ns: int, end_ns: int) -> list[list[BarTick]]:
        """By page."""
        return [
            [tick for tick in self.timed.read(self.connection.symbol, frame) if isinstance(tick, BarTick)]
            for frame in self.frames(interval, begin_ns, end_ns)
        ]

    def trades(self, begin_ns: int, end_ns: int) -> list[list[TradeTick]]:
        """By page."""
        return [
            [tick for tick in self.timed.read(self.connection.symbol, frame) if isinstance(tick, TradeTick)]
            for frame in self.frames(TRADES, begin_ns, end_ns)
        ]


def bar(past: Past, interval: str, candle: Candle) -> BarTick:
    """A candle as it should be read."""
    of, c = past.listing, candle
    opened, high, low, close = (price(of, ticks) for ticks in (c.open, c.high, c.low, c.close))
    symbol, volume = past.connection.symbol, size(of, c.lots)
    return BarTick(symbol, interval, c.ts_open_ns, opened, high, low, close, volume, None, c.count)


def _small(venue: str, rows: int) -> Timed:
    """The venue's, with pages of that many rows, unless 0."""
    found = TIMED[venue]
    assert found.trades is not None
    if not rows:
        return found(SETTINGS)
    bars = found.bars._replace(path=found.bars.path.replace("limit=50000", f"limit={rows}"), rows=rows)
    return type("Small", (found,), {"bars": bars, "trades": found.trades._replace(rows=rows)})(SETTINGS)  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [0, 70])
@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("venue", VENUES)
def test_bars_are_what_was_traded_once_each_and_oldest_first(venue: str, interval: str, rows: int) -> None:
    """However many pages they come in; no bar of a time without trades, or outside of the window."""
    past = Past(venue, rows)
    begin_ns, end_ns = BEGIN_NS + 60 * MINUTE_NS, BEGIN_NS + 240 * MINUTE_NS
    pages = past.bars(interval, begin_ns, end_ns)
    every = candles(past.listing.instrument.tape, INTERVALS[interval], begin_ns, end_ns)
    assert [tick for page in pages for tick in page] == [bar(past, interval, candle) for candle in every]
    expected = {"1m": 120, "5m": 36, "15m": 12, "30m": 6, "1h": 3}
    assert sum(map(len, pages)) == expected[interval]
    assert (len(pages) > 1) is (rows > 0 and (interval == "1m" or venue == "massive"))


@pytest.mark.parametrize("rows", [0, 40])
@pytest.mark.parametrize("venue", VENUES)
def test_trades_are_the_live_ones_once_each_and_oldest_first(venue: str, rows: int) -> None:
    """With the very fields that the feed gave them, so that each is known again; those that were cancelled or replaced
    by a correction are left out."""
    past = Past(venue, rows)
    begin_ns, end_ns = BEGIN_NS + 60 * MINUTE_NS, BEGIN_NS + 120 * MINUTE_NS
    pages = past.trades(begin_ns, end_ns)
    live = {t.trade_id: t for t in past.live if begin_ns <= (t.ts_exchange or 0) < end_ns}
    got = [replace(tick, recovered=False) for page in pages for tick in page]
    assert len({tick.trade_id for tick in got}) == len(got) > 100
    times = [tick.ts_exchange or 0 for tick in got]
    assert times == sorted(times)
    corrections = [tick for tick in got if tick.trade_id not in live]
    assert [tick for tick in got if tick not in corrections] == [live[t.trade_id] for t in got if t.trade_id in live]
    void = len(live.keys() - {tick.trade_id for tick in got})
    assert (void > len(corrections) > 0) if venue == "alpaca" else (void, corrections) == (0, [])
    assert all(len(page) <= rows for page in pages) or not rows
    assert (len(pages) > 1) is (rows > 0)


@pytest.mark.parametrize("venue", VENUES)
def test_a_window_without_trades_has_one_empty_page(venue: str) -> None:
    """Which says that there was nothing."""
    past = Past(venue)
    assert past.bars("1m", BEGIN_NS, BEGIN_NS + MINUTE_NS) == [[]]
    assert past.trades(BEGIN_NS, BEGIN_NS + MINUTE_NS) == [[]]


@pytest.mark.parametrize("venue", ["alpaca", "massive"])
def test_nothing_is_had_without_the_key(venue: str) -> None:
    """It is told what to set, and not asked again."""
    past = Past(venue)
    path, _, query = past.page("1m", BEGIN_NS, BEGIN_NS + MINUTE_NS).target.partition("?")
    for headers in ({}, dict.fromkeys(past.headers, "Bearer wrong" if venue == "massive" else "wrong")):
        answer = past.rest.get(path, query, NOW_NS, headers)
        error = past.timed.judge(Answer(answer.status, {}, answer.body), now_s=0.0)
        assert (type(error).__name__, f"set {venue.upper()}_" in str(error)) == ("PermanentError", True)
