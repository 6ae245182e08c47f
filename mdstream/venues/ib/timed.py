"""Interactive Brokers: past bars and trades, by ib_async in place of HTTP (client.py).

Source: IBKR's TWS API pages on historical bars, time and sales, and their limitations (read 2026-11).
Limits: pacing.py. A duration in seconds is of trading time and at most a day; one in days counts trading days, the
unfinished one included: so either leads back at least as far as the same time on the clock. Ticks come oldest first
from a second on, as many as were asked for and what completes the last second, of one trading session only.
Reach: bars of 30 s and shorter half a year.
Not here: bars that begin by the exchange's clock (2 hours and longer). Past trades lack some of the live feed's
(docs/venues/ib.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from mdstream.venues.ib.feed import MOST_TICKS, PastTicks, told
from mdstream.venues.past import Limits, Page
from mdstream.venues.rest import OK, Answer, Complaint, PermanentError, RetryableError
from mdstream.venues.timed import TRADES, Endpoint, Timed
from mdstream.venues.times import SECOND_NS

BAR_SIZES = {
    **{f"{n}s": f"{n} secs" for n in (1, 5, 10, 15, 30)},
    "1m": "1 min",
    **{f"{n}m": f"{n} mins" for n in (2, 3, 5, 10, 15, 20, 30)},
    "1h": "1 hour",
}
SMALL = ("1s", "5s", "10s", "15s", "30s")
DAY_S, SHORTEST_S = 86_400, 60

NO_DATA = "query returned no data"
PACING, PACING_WAIT_S = "pacing violation", 60.0
OTHER_SESSION, OTHER_SESSION_WAIT_S = 10197, 60.0
FINAL_CODES = frozenset({200, 321, 354, 10089, 10168, 10314})
FINAL_TEXTS = ("permission", "no historical market data for", "no data of type", "invalid step", "exceed max")
"""Of code 162, which stands for all that can be wrong with a request of history."""

_TARGET = re.compile(r"/(?:history|ticks)\?symbol=([A-Z0-9.-]+)&interval=([0-9a-z]+)&begin=([0-9]+)&end=([0-9]+)")
_decode = msgspec.json.Decoder(PastTicks, strict=False).decode


class Query(NamedTuple):
    """A request for a symbol's bars that begin from `begin_s` on and before `end_s`, or its trades of that time."""

    symbol: str
    interval: str
    begin_s: int
    end_s: int

    @classmethod
    def of(cls, target: str) -> Query:
        """What `IbTimed.ask` has put into a target."""
        match = _TARGET.fullmatch(target)
        if match is None:
            raise ValueError(f"not a request of history: {target!r}")
        return cls(match[1], match[2], int(match[3]), int(match[4]))

    @property
    def duration(self) -> str:
        """The venue's name for a time that covers all of it."""
        seconds = max(self.end_s - self.begin_s, SHORTEST_S)
        return f"{seconds} S" if seconds <= DAY_S else f"{-(-seconds // DAY_S) + 1} D"

    @property
    def begin(self) -> str:
        """Its beginning as the venue writes times."""
        return _time(self.begin_s)

    @property
    def end(self) -> str:
        """Its end as the venue writes times."""
        return _time(self.end_s)

    @property
    def small(self) -> bool:
        """Whether the venue's rule for bars of 30 s and shorter is for it: for ticks it is, too."""
        return self.interval in SMALL or self.interval == TRADES

    @property
    def what(self) -> str:
        """What the venue is asked for: the same may be for two queries."""
        if self.interval == TRADES:
            return f"{self.symbol} ticks {self.begin}"
        return f"{self.symbol} {BAR_SIZES[self.interval]} {self.duration} {self.end}"


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%d %H:%M:%S} UTC"


class Refusal(msgspec.Struct):
    """The body of an answer that says why there is none."""

    code: int
    message: str


def says_no_data(message: str) -> bool:
    """Whether an error of the gateway says that nothing was traded in the time that was asked for."""
    return NO_DATA in message.lower()


def refused(code: int, message: str) -> Answer | RetryableError:
    """What another error of the gateway means for a request of history."""
    text = message.lower()
    if code in FINAL_CODES or any(words in text for words in FINAL_TEXTS):
        return Answer(400, {}, msgspec.json.encode(Refusal(code, message)))
    waits_s = {OTHER_SESSION: OTHER_SESSION_WAIT_S}
    return RetryableError(told(code, message), PACING_WAIT_S if PACING in text else waits_s.get(code))


class IbTimed(Timed):
    name = "ib"
    default_url = "ib://127.0.0.1:4002"
    client = "mdstream.venues.ib.client.IbClient"
    error = Refusal
    limits = Limits(per_s=2.0, burst=5.0)
    intervals: ClassVar = {each: each for each in BAR_SIZES}
    bars = Endpoint("/history?symbol={symbol}&interval={interval}&begin={begin_s}&end={end_s}", 720)
    trades = Endpoint("/ticks?symbol={symbol}&interval=trades&begin={begin_s}&end={end_s}", MOST_TICKS)
    reach_ns = 180 * DAY_S * SECOND_NS
    near = SMALL

    def ask(self, symbol: str, interval: str, begin_ns: int, end_ns: int) -> Page | PermanentError:
        """In whole seconds, which have all trades of their times."""
        return super().ask(symbol, interval, begin_ns, -(-end_ns // SECOND_NS) * SECOND_NS)

    def more(self, page: Page, body: bytes) -> Page | None:
        query = Query.of(page.target)
        if query.interval != TRADES or (begin_s := _decode(body).goes_on) >= query.end_s:
            return None
        return page._replace(target=page.target.replace(f"&begin={query.begin_s}&", f"&begin={begin_s}&"))

    def base_url(self, addresses: Mapping[str, str]) -> str:
        return self._provider.url(addresses)

    def complaint(self, status: int, error: Any) -> Complaint | None:
        return None if status == OK else Complaint(told(error.code, error.message), True)
