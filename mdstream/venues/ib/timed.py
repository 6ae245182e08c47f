"""Interactive Brokers: past bars, by ib_async in place of HTTP (client.py).

Source: IBKR's TWS API pages on historical bars and their limitations (read 2026-11).
Limits: pacing.py. A duration in seconds is of trading time and at most a day; one in days counts trading days, the
unfinished one included: so either leads back at least as far as the same time on the clock.
Reach: bars of 30 s and shorter half a year.
Not here: bars that begin by the exchange's clock (2 hours and longer); past trades, which are not those of the live
feed (docs/venues/ib.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import msgspec

from mdstream.venues.ib.feed import told
from mdstream.venues.past import Limits
from mdstream.venues.rest import OK, Answer, Complaint, RetryableError
from mdstream.venues.timed import SECOND_NS, Endpoint, Timed

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

_TARGET = re.compile(r"/history\?symbol=([A-Z0-9.-]+)&interval=([0-9a-z]+)&begin=([0-9]+)&end=([0-9]+)")


class Query(NamedTuple):
    """A request for the bars of a symbol that begin from `begin_s` on and before `end_s`."""

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
    def end(self) -> str:
        """Its end as the venue writes times."""
        return f"{datetime.fromtimestamp(self.end_s, UTC):%Y%m%d %H:%M:%S} UTC"

    @property
    def what(self) -> str:
        """What the venue is asked for: the same may be for two queries."""
        return f"{self.symbol} {BAR_SIZES[self.interval]} {self.duration} {self.end}"


class Refusal(msgspec.Struct):
    """The body of an answer that says why there is none."""

    code: int
    message: str


def refused(code: int, message: str) -> Answer | RetryableError | None:
    """What an error of the gateway means for a request of history; None: there are no data of that time."""
    text = message.lower()
    if NO_DATA in text:
        return None
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
    reach_ns = 180 * DAY_S * SECOND_NS

    def base_url(self, addresses: Mapping[str, str]) -> str:
        return self._provider.url(addresses)

    def complaint(self, status: int, error: Any) -> Complaint | None:
        return None if status == OK else Complaint(told(error.code, error.message), True)
