"""Every venue's past by time against its own simulated REST interface: it has what was traded, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace
from test_venue_simulated import NOW_NS, Connection, price, size
from venue_symbols import SETTINGS, symbols_of

from mdstream.backfill.windows import Times, oldest_ns, unit_ns, windows
from mdstream.repair.venues import TIMED
from mdstream.repairs import rest_frame
from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.listing import Kind, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.rest import Budget, Rest
from mdstream.simulator.venues import RESTS
from mdstream.ticks import BarTick, TradeTick
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.timed import TRADES, Timed

VENUES = sorted(TIMED.keys() & RESTS.keys())
EACH = [(venue, interval) for venue in VENUES for interval in TIMED[venue].intervals]


class Past:
    """A venue's past and its simulated exchange, without a socket."""

    def __init__(self, venue: str) -> None:
        self.connection = Connection(venue)
        self.timed: Timed = TIMED[venue](SETTINGS)
        self.headers = {name.lower(): value for name, value in self.timed.headers(SETTINGS).items()}
        self.rest: Rest = RESTS[venue](self.connection.exchange, Budget(1_000_000, 60.0))
        found = self.connection.exchange.listing(self.connection.provider.to_venue(self.connection.symbol), NOW_NS)
        assert found is not None
        self.listing: Listing = found

    def answer(self, page: Page, now_ns: int) -> Answer:
        path, _, query = page.target.partition("?")
        answer = self.rest.get(path, query, now_ns, self.headers)
        return Answer(answer.status, {}, answer.body)

    def pages(self, interval: str, window: Times, now_ns: int) -> Iterator[Sequence[BarTick | TradeTick]]:
        """What each page of a window has."""
        page: Page | PermanentError | None = self.timed.ask(self.connection.symbol, interval, *window)
        while page is not None:
            assert isinstance(page, Page)
            answer = self.answer(page, now_ns)
            assert self.timed.judge(answer, now_s=0.0) is None
            yield self.timed.read(self.connection.symbol, rest_frame(page.target, interval, answer.body))
            page = self.timed.more(page, answer.body)

    def bars(self, interval: str, times: Times, now_ns: int) -> list[BarTick]:
        """Those of a time, as a backfill asks for them. More than those of a window may come: the stream knows them."""
        found = [
            tick
            for window in windows([times], interval, self.timed.bars.rows)
            for ticks in self.pages(interval, window, now_ns)
            for tick in ticks
            if isinstance(tick, BarTick) and window.begin <= tick.ts_open < window.end
        ]
        return sorted(found, key=lambda bar: bar.ts_open)


def check(of: Listing, bar: BarTick, candle: Candle) -> None:
    """Prices to the digit, sums to the digits that a venue gives."""
    prices = [price(of, ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)]
    assert [bar.open, bar.high, bar.low, bar.close] == prices
    assert bar.ts_open == candle.ts_open_ns
    assert bar.volume == pytest.approx(size(of, candle.lots))
    assert bar.trades in (None, candle.count)
    turnover = candle.turnover / 10 ** (of.instrument.price_decimals + of.instrument.size_decimals)
    assert bar.quote_volume is None or bar.quote_volume == pytest.approx(turnover, rel=1e-4)


@pytest.mark.parametrize(("venue", "interval"), EACH)
def test_bars_are_those_of_what_was_traded(venue: str, interval: str) -> None:
    """Each of them, also where one answer is full; none of an interval without trades."""
    past, each = Past(venue), unit_ns(interval)
    rows, begin = past.timed.bars.rows, NOW_NS // each * each
    for number in (0, 1, 1, 3, rows - 2, rows - 1, rows, rows + 2):
        past.listing.instrument.order(max(NOW_NS, begin + number * each + each // 2))
    now_ns = begin + (rows + 3) * each + each // 4
    first = -(-max(begin, oldest_ns(past.timed, interval, now_ns)) // each) * each
    for times in (Times(first, now_ns // each * each), Times(begin + (rows - 2) * each, begin + rows * each)):
        expected = list(candles(past.listing.instrument.tape, each, *times))
        bars = past.bars(interval, times, now_ns)
        assert len(bars) == len(expected) > 0
        for bar, candle in zip(bars, expected, strict=True):
            assert bar.interval == interval
            check(past.listing, bar, candle)


@pytest.mark.parametrize("venue", VENUES)
def test_windows_that_follow_one_another_have_each_bar_once(venue: str) -> None:
    """One that begins with a window is in it, and one that begins with its end is not."""
    past, each = Past(venue), unit_ns("1m")
    for number in range(60):
        past.listing.instrument.order(NOW_NS + number * 17 * SECOND_NS)
    begin, end = NOW_NS // each * each, (NOW_NS + 60 * 17 * SECOND_NS) // each * each
    found = [
        bar.ts_open
        for at in range(begin, end, 3 * each)
        for bar in past.bars("1m", Times(at, min(at + 3 * each, end)), end + each // 4)
    ]
    assert found == [candle.ts_open_ns for candle in candles(past.listing.instrument.tape, each, begin, end)]


WITH_TRADES = [venue for venue in VENUES if TIMED[venue].trades is not None and venue != "alpaca"]
"""Alpaca's leave out what was corrected: test_stocks_past.py."""


@pytest.mark.parametrize("venue", WITH_TRADES)
def test_trades_by_time_are_those_of_the_feed(venue: str) -> None:
    """Page by page, oldest first, each trade of the window; those before and behind it may come, too."""
    past = Past(venue)
    endpoint = past.timed.trades
    assert endpoint is not None
    ((topic, read), *_) = past.connection.of(Kind.TRADE)
    sent: list[TradeTick] = []
    for number in range(2 * endpoint.rows):
        order = topic.listing.instrument.order(NOW_NS + number * SECOND_NS // 10)
        sent += [tick for tick in read(order) if isinstance(tick, TradeTick)]
    times = Times(NOW_NS + 2 * SECOND_NS, NOW_NS + (2 * endpoint.rows - 20) * SECOND_NS // 10)
    wanted = [tick for tick in sent if times.begin <= (tick.ts_exchange or 0) < times.end]
    pages = list(past.pages(TRADES, times, NOW_NS + 86_400 * SECOND_NS))
    assert len(pages) > 2
    found = {tick.trade_id: tick for ticks in pages for tick in ticks if isinstance(tick, TradeTick)}
    ids = [tick.trade_id for tick in wanted]
    known = set(ids)
    assert [trade_id for trade_id in found if trade_id in known] == ids
    newest = [
        max((tick.ts_exchange or 0 for tick in ticks if isinstance(tick, TradeTick)), default=0) for ticks in pages
    ]
    assert newest[:-1] == sorted(newest[:-1])
    for tick in wanted:
        same = found[tick.trade_id]
        # Not earlier: the first live trade is no history.
        assert (same.ts_exchange or 0) - (tick.ts_exchange or 0) in (0, 1_000)
        assert same == replace(tick, recovered=True, ts_exchange=same.ts_exchange)


@pytest.mark.parametrize("venue", WITH_TRADES)
def test_a_window_from_the_time_of_a_trade_on_has_all_of_that_time(venue: str) -> None:
    """As the venue tells the time: a backfill that was killed goes on there."""
    past = Past(venue)
    for number in range(20):
        past.listing.instrument.order(NOW_NS + number * 12_345_678_901)
    now_ns = NOW_NS + 86_400 * SECOND_NS
    whole = [tick for ticks in past.pages(TRADES, Times(NOW_NS - SECOND_NS, now_ns), now_ns) for tick in ticks]
    at = {tick.trade_id: tick.ts_exchange or 0 for tick in whole if isinstance(tick, TradeTick)}
    for begin in set(at.values()):
        ticks = [tick for page in past.pages(TRADES, Times(begin, now_ns), now_ns) for tick in page]
        found = {tick.trade_id for tick in ticks if isinstance(tick, TradeTick)}
        assert {trade_id for trade_id, ns in at.items() if ns >= begin} <= found


@pytest.mark.parametrize("venue", VENUES)
def test_an_unknown_symbol_is_refused_for_good_or_has_nothing(venue: str) -> None:
    """With the venue's own words; whoever asks does not ask again and again."""
    past = Past(venue)
    past.connection = Connection(venue, [past.connection.symbol])
    past.rest = RESTS[venue](past.connection.exchange, Budget(1_000_000, 60.0))
    (symbol,) = symbols_of(venue, 1)
    interval, *_ = past.timed.intervals
    page = past.timed.ask(symbol, interval, 0, unit_ns(interval))
    assert isinstance(page, Page)
    answer = past.answer(page, NOW_NS)
    verdict = past.timed.judge(answer, now_s=0.0)
    if verdict is None:
        assert list(past.timed.read(symbol, rest_frame(page.target, interval, answer.body))) == []
    else:
        assert isinstance(verdict, PermanentError)
        assert verdict.reason


@pytest.mark.parametrize("venue", VENUES)
def test_what_a_venue_does_not_have_is_not_asked_for(venue: str) -> None:
    """An interval that nobody knows, trades where they have none by time, a symbol that cannot be one of it."""
    timed, (symbol, *_) = TIMED[venue](), Connection(venue).provider.default_symbols
    assert isinstance(timed.ask(symbol, "7m", 0, unit_ns("7m")), PermanentError)
    assert isinstance(timed.ask("?", next(iter(timed.intervals)), 0, unit_ns("1d")), PermanentError)
    assert isinstance(timed.ask(symbol, TRADES, 0, 1), PermanentError) == (timed.trades is None)


@pytest.mark.parametrize("venue", VENUES)
def test_requests_beyond_the_venue_s_limit_are_tried_again(venue: str) -> None:
    """They are a matter of time, not of what was asked for."""
    past = Past(venue)
    past.rest = RESTS[venue](past.connection.exchange, Budget(1, 60.0))
    interval, *_ = past.timed.intervals
    page = past.timed.ask(past.connection.symbol, interval, 0, unit_ns(interval))
    assert isinstance(page, Page)
    verdicts = [past.timed.judge(past.answer(page, NOW_NS), now_s=0.0) for _ in range(20)]
    assert isinstance(verdicts[-1], RetryableError)
    assert not any(isinstance(verdict, PermanentError) for verdict in verdicts)
