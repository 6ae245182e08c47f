"""mdstream/trading_hours.py against the calendar library that the table was computed from, and New York's clock."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from warnings import catch_warnings
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.records import LAST_NS
from mdstream.trading_hours import US_STOCKS, TradingHours, TradingSession, is_trading_day, trading_hours
from mdstream.us_trading_days import HALF_DAYS, HOLIDAYS

S = 1_000_000_000
NEW_YORK = ZoneInfo("America/New_York")
FIRST, LAST = date(2015, 1, 1), date(2030, 12, 31)


def ns(text: str) -> int:
    """2026-11-27 13:00 in New York."""
    return int(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * S


def clock(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns // S, NEW_YORK):%Y-%m-%d %H:%M}"


Sessions = list[tuple[int, int]]


@pytest.fixture(scope="module")
def regular() -> Sessions:
    """Opening and close of each trading day, as the library has them. It takes seconds to import."""
    import exchange_calendars

    with catch_warnings(action="ignore"):  # it uses what a future pandas will not have
        calendar = exchange_calendars.get_calendar("XNYS", start=str(FIRST), end=str(LAST))
    return [
        (int(opening.timestamp()) * S, int(close.timestamp()) * S)
        for opening, close in zip(calendar.opens, calendar.closes, strict=True)
    ]


def days() -> Iterator[date]:
    yield from (FIRST + timedelta(n) for n in range((LAST - FIRST).days + 1))


def test_trading_days_are_those_of_the_library(regular: Sessions) -> None:
    """Every holiday and every weekend of sixteen years; a difference means that the table has to be computed anew."""
    expected = {datetime.fromtimestamp(opening // S, NEW_YORK).date() for opening, _ in regular}
    assert {day for day in days() if is_trading_day(day)} == expected


def test_every_regular_session_is_that_of_the_library(regular: Sessions) -> None:
    """Opening and close to the second, on half days and on both sides of each change of the clock."""
    for opening, close in regular:
        assert US_STOCKS.at(opening) == TradingSession("regular", opening, close)
        assert US_STOCKS.at(close - 1) == TradingSession("regular", opening, close)
        assert (US_STOCKS.at(opening - 1).name, US_STOCKS.at(close).name) == ("pre", "post")


@given(st.integers(ns("2015-01-02 09:30"), ns("2030-12-31 16:00") - 1))
def test_any_instant_is_regular_when_the_library_says_so(regular: Sessions, ts_ns: int) -> None:
    """An object that has remembered nothing, and one that has remembered others, agree with it."""
    before = bisect_right(regular, (ts_ns, LAST_NS)) - 1
    is_open = ts_ns < regular[before][1]
    session = TradingHours().at(ts_ns)
    assert (session.name == "regular") is is_open
    assert session.from_ns <= ts_ns < session.to_ns
    assert US_STOCKS.at(ts_ns) == session


def test_sessions_follow_each_other_without_a_hole() -> None:
    """
    closed  pre  regular  post  closed  pre ...     for sixteen years
    """
    at_ns, names = ns("2015-01-02 04:00"), []
    while at_ns < ns("2030-12-31 12:00"):
        session = US_STOCKS.at(at_ns)
        assert session.from_ns == at_ns
        names.append(session.name)
        at_ns = session.to_ns
    assert names[:4] == ["pre", "regular", "post", "closed"]
    assert names == (names[:4] * len(names))[: len(names)]


@pytest.mark.parametrize("year", sorted(HALF_DAYS))
def test_extended_sessions_by_the_clock_of_new_york(year: int) -> None:
    """The library has the regular session alone; the others have fixed hours, and end three earlier on half days."""
    for day in (day for day in days() if day.year == year and is_trading_day(day)):
        half = f"{day:%m%d}" in HALF_DAYS[year].split()
        pre, post = US_STOCKS.at(ns(f"{day} 04:00")), US_STOCKS.at(ns(f"{day} {'13' if half else '16'}:00"))
        assert (clock(pre.from_ns), clock(pre.to_ns)) == (f"{day} 04:00", f"{day} 09:30")
        assert clock(post.to_ns) == f"{day} {'17' if half else '20'}:00"


@pytest.mark.parametrize(
    ("at", "name", "begins", "ends"),
    [
        ("2026-11-24 12:00", "regular", "2026-11-24 09:30", "2026-11-24 16:00"),
        ("2026-11-25 20:00", "closed", "2026-11-25 20:00", "2026-11-27 04:00"),  # over Thanksgiving
        ("2026-11-26 12:00", "closed", "2026-11-25 20:00", "2026-11-27 04:00"),
        ("2026-11-27 12:59", "regular", "2026-11-27 09:30", "2026-11-27 13:00"),  # the half day after it
        ("2026-11-27 16:59", "post", "2026-11-27 13:00", "2026-11-27 17:00"),
        ("2026-11-28 03:00", "closed", "2026-11-27 17:00", "2026-11-30 04:00"),
        ("2026-11-30 03:59", "closed", "2026-11-27 17:00", "2026-11-30 04:00"),
        ("2026-03-08 12:00", "closed", "2026-03-06 20:00", "2026-03-09 04:00"),  # an hour shorter
        ("2026-11-01 12:00", "closed", "2026-10-30 20:00", "2026-11-02 04:00"),  # an hour longer
        ("2025-01-09 12:00", "closed", "2025-01-08 20:00", "2025-01-10 04:00"),  # a day of mourning
        ("2031-12-25 12:00", "regular", "2031-12-25 09:30", "2031-12-25 16:00"),  # beyond the table
    ],
)
def test_session_at(at: str, name: str, begins: str, ends: str) -> None:
    session = US_STOCKS.at(ns(at))
    assert (session.name, clock(session.from_ns), clock(session.to_ns)) == (name, begins, ends)
    assert (session.rest == "closed") is (name == "closed")


def test_weekend_with_a_change_of_the_clock_has_its_true_length() -> None:
    """From Friday 20:00 to Monday 04:00 are 56 hours, in March one less, in November one more."""
    lengths = {at: US_STOCKS.at(ns(f"{at} 12:00")) for at in ("2026-03-08", "2026-06-07", "2026-11-01")}
    assert [(each.to_ns - each.from_ns) // S // 3600 for each in lengths.values()] == [55, 56, 57]


@given(st.integers(0, LAST_NS - 1))
def test_any_time_of_an_event_is_in_one_session(ts_ns: int) -> None:
    """Also in years without a table: then every weekday is a trading day, and nothing is called closed that is not."""
    session = TradingHours().at(ts_ns)
    assert session.from_ns <= ts_ns < session.to_ns
    assert set(HOLIDAYS) == set(HALF_DAYS) == set(range(2015, 2031))


@pytest.mark.parametrize(
    ("market", "symbol", "known"),
    [
        ("equities", "AAPL", True),
        ("equities", "BRK.B", True),
        ("equities", "FAKEPACA", False),  # Alpaca's test symbol trades at any hour
        ("equities", "ESH26.CME", False),
        ("equities", "EURUSD.FXCM", False),
        ("equities", "AAPL-20260116-250-C", False),
        ("crypto", "OPUSD", False),  # a pair with the form of a ticker
    ],
)
def test_only_us_stocks_have_hours(market: str, symbol: str, known: bool) -> None:
    """Futures, currencies and options keep other hours, which are not known here."""
    assert trading_hours(market, symbol) is (US_STOCKS if known else None)
