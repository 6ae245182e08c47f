"""Past bars and ticks of the simulated gateway, and the venue's pacing rules for them.

Source: IBKR's TWS API pages on historical bars, time and sales, their limitations and the message codes (read
2026-11). Our choices where they are silent: the market is always open, so a second of trading time is one of the clock,
and a trading day is one of UTC, and so is a session, of which ticks come; a refused request counts, too; the first two
rules are enforced for bars of every size. At most 50 open requests: each is answered at once, so none is ever open.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.venues.ib.feed import MOST_TICKS

SIZES_S = {
    **{f"{n} secs": n for n in (1, 5, 10, 15, 30)},
    "1 min": 60,
    **{f"{n} mins": n * 60 for n in (2, 3, 5, 10, 15, 20, 30)},
    "1 hour": 3_600,
    **{f"{n} hours": n * 3_600 for n in (2, 3, 4, 8)},
}
SMALL_S, DAY_S = 30, 86_400
SAME_NS, CONTRACT_NS, SMALL_NS = 15 * SECOND_NS, 2 * SECOND_NS, 600 * SECOND_NS
FEWER_THAN, MOST_SMALL = 6, 60

_TIME = re.compile(r"(\d{8})[ -](\d\d:\d\d:\d\d)(?: UTC)?", re.ASCII)
_DURATION = re.compile(r"([1-9]\d{0,5}) ([SD])", re.ASCII)


class Asked(NamedTuple):
    """The fields of a request behind its contract."""

    expired: str
    end: str
    size: str
    duration: str
    regular_hours: str
    what: str
    time_format: str
    keep: str
    options: str


class AskedTicks(NamedTuple):
    """The fields of a request for ticks behind its contract."""

    expired: str
    begin: str
    end: str
    most: str
    what: str
    regular_hours: str
    ignore_size: str
    options: str


class Pace:
    """What one user has asked for; `violations` of the rules are refused."""

    def __init__(self) -> None:
        self.requests = self.violations = 0
        self._asked: deque[tuple[int, str, Sequence[str], bool]] = deque()

    def counts(self) -> dict[str, int]:
        return {"history_requests": self.requests, "pacing_violations": self.violations}

    def admits(self, contract: str, fields: Sequence[str], now_ns: int, *, small: bool) -> bool:
        """Count a request; False if it breaks a rule. `small`: of small bars, or of ticks."""
        asked = self._asked
        while asked and now_ns - asked[0][0] >= SMALL_NS:
            asked.popleft()
        same = any(now_ns - at < SAME_NS and (of, what) == (contract, fields) for at, of, what, _ in asked)
        near = sum(now_ns - at < CONTRACT_NS and of == contract for at, of, _, _ in asked)
        breaks = same or near + 1 >= FEWER_THAN or (small and sum(each[3] for each in asked) >= MOST_SMALL)
        asked.append((now_ns, contract, fields, small))
        self.requests += 1
        self.violations += breaks
        return not breaks


def is_small(asked: Asked) -> bool:
    """Whether a request for bars is one of the short ones, which are limited more."""
    return SIZES_S.get(asked.size, DAY_S) <= SMALL_S


def fills(listing: Listing, asked: AskedTicks, now_ns: int) -> list[Fill]:
    """The fills that a request for ticks leads to: of the session that it begins in, with all of the last one's second.
    Raises RefusedError with (code, text)."""
    if asked.end or not asked.begin or not asked.most.isdecimal() or not 1 <= int(asked.most) <= MOST_TICKS:
        raise RefusedError(321, f"Error validating request: {asked.begin}, {asked.end}, {asked.most}")
    begin_s = _seconds(asked.begin, now_ns)
    tape, end_ns = listing.instrument.tape, (begin_s // DAY_S + 1) * DAY_S * SECOND_NS
    found: list[Fill] = []
    for fill in tape.fills(tape.id_at(begin_s * SECOND_NS), tape.next_id):
        another = len(found) >= int(asked.most) and fill.ts_ns // SECOND_NS > found[-1].ts_ns // SECOND_NS
        if another or fill.ts_ns >= end_ns:
            break
        found.append(fill)
    return found


def bars(listing: Listing, asked: Asked, now_ns: int) -> tuple[int, int, list[tuple[object, ...]]]:
    """Begin and end of a request, in seconds, and the fields of its bars. Raises RefusedError with (code, text)."""
    size_s, duration = SIZES_S.get(asked.size), _DURATION.fullmatch(asked.duration)
    if size_s is None or duration is None or asked.keep != "0":
        raise RefusedError(321, f"Error validating request: {asked.size}, {asked.duration}, {asked.keep}")
    end_s, most = _seconds(asked.end, now_ns), int(duration[1])
    if duration[2] == "D":
        begin_s = (end_s - 1) // DAY_S * DAY_S - (most - 1) * DAY_S
    elif most > DAY_S:
        text = "Historical data requests for durations longer than 86400 seconds must be made in days."
        raise RefusedError(321, f"Error validating request.-'bH' : cause - {text}")
    else:
        begin_s = end_s - most
    size_ns = size_s * SECOND_NS
    found = candles(listing.instrument.tape, size_ns, begin_s * SECOND_NS, end_s * SECOND_NS)
    return begin_s, end_s, [_bar(listing, candle, asked.time_format) for candle in found]


def _seconds(text: str, now_ns: int) -> int:
    match = _TIME.fullmatch(text)
    try:
        if not text:
            return -(-now_ns // SECOND_NS)
        if match:
            return int(datetime.strptime(f"{match[1]} {match[2]} Z", "%Y%m%d %H:%M:%S %z").timestamp())
    except ValueError:
        pass
    raise RefusedError(10314, "End Date/Time: The date, time, or time-zone entered is invalid.")


def _bar(listing: Listing, candle: Candle, time_format: str) -> tuple[object, ...]:
    second, price = candle.ts_open_ns // SECOND_NS, listing.price
    date = second if time_format == "2" else f"{datetime.fromtimestamp(second, UTC):%Y%m%d %H:%M:%S} UTC"
    average = candle.turnover / candle.lots * 10.0**-listing.instrument.price_decimals
    prices = map(price, (candle.open, candle.high, candle.low, candle.close))
    return date, *prices, listing.size(candle.lots), f"{average:.6f}", candle.count
