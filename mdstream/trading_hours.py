"""The trading session of a market at an instant. Pure: computed from a table of days, without a call to a calendar.

    NYSE, Nasdaq   04:00      09:30            16:00      20:00      New York; on half days 13:00 and 17:00
    ── closed ──────┤   pre    ┤    regular     ┤   post   ┤────── closed, to 04:00 of the next trading day ──────

A session is half-open: the instant of the opening belongs to it, that of its end to the next one. Halts of a single
instrument are not in a calendar: venues report them (mdstream/stream/halts.py).
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from mdstream.instruments import Kind, parse
from mdstream.us_trading_days import HALF_DAYS, HOLIDAYS

Rest = Literal["closed", "halted"]
SessionName = Literal["pre", "regular", "post"] | Rest

NEW_YORK = ZoneInfo("America/New_York")
SECOND_NS = 1_000_000_000
DAY = timedelta(days=1)
PRE, OPEN, CLOSE, END = time(4), time(9, 30), time(16), time(20)
EARLY_CLOSE, EARLY_END = time(13), time(17)
SATURDAY = 5


class TradingSession(NamedTuple):
    """From `from_ns` up to, not including, `to_ns`: ns since 1970, UTC."""

    name: SessionName
    from_ns: int
    to_ns: int

    @property
    def rest(self) -> Rest | None:
        """Why nothing is traded; None if it may be."""
        return self.name if self.name == "closed" or self.name == "halted" else None


class TradingHours:
    """The sessions of the US stock exchanges. It remembers the last answer: most calls are two comparisons."""

    def __init__(self) -> None:
        self._last = TradingSession("closed", 0, 0)

    def at(self, ts_ns: int) -> TradingSession:
        """The session at a time, from 1970 to 2255."""
        last = self._last
        if not last.from_ns <= ts_ns < last.to_ns:
            last = self._last = _find(ts_ns)
        return last


US_STOCKS = TradingHours()


def trading_hours(market: str, symbol: str) -> TradingHours | None:
    """The hours of a canonical symbol; None if its market does not close, or its hours are not known here."""
    if market != "equities":
        return None
    instrument = parse(symbol, ())
    return US_STOCKS if instrument is not None and instrument.kind is Kind.STOCK else None


def is_trading_day(day: date) -> bool:
    """Whether NYSE and Nasdaq trade on a day."""
    return day.weekday() < SATURDAY and not _is_in(HOLIDAYS, day)


def _is_in(days: dict[int, str], day: date) -> bool:
    return f"{day:%m%d}" in days.get(day.year, "").split()


def _find(ts_ns: int) -> TradingSession:
    day = datetime.fromtimestamp(ts_ns // SECOND_NS, NEW_YORK).date()
    sessions = _sessions(day) if is_trading_day(day) else []
    for session in sessions:
        if session.from_ns <= ts_ns < session.to_ns:
            return session
    over = bool(sessions) and ts_ns >= sessions[-1].to_ns
    last_day = day if over else _trading_day(day, -DAY)
    return TradingSession("closed", _sessions(last_day)[-1].to_ns, _sessions(_trading_day(last_day, DAY))[0].from_ns)


def _trading_day(day: date, step: timedelta) -> date:
    """The next trading day after `day`, or the last one before it."""
    day += step
    while not is_trading_day(day):
        day += step
    return day


def _sessions(day: date) -> list[TradingSession]:
    """Those of a trading day, in order."""
    half = _is_in(HALF_DAYS, day)
    times = (PRE, OPEN, EARLY_CLOSE if half else CLOSE, EARLY_END if half else END)
    pre_ns, open_ns, close_ns, end_ns = (_at_ns(day, each) for each in times)
    return [
        TradingSession("pre", pre_ns, open_ns),
        TradingSession("regular", open_ns, close_ns),
        TradingSession("post", close_ns, end_ns),
    ]


def _at_ns(day: date, clock: time) -> int:
    return int(datetime.combine(day, clock, NEW_YORK).timestamp()) * SECOND_NS
