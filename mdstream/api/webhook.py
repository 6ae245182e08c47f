"""What becomes of an alert: read, in time, not seen before. Pure: the time is an argument.

    POST ─ rate of its source ─ secret ─> read ─ its time ─ its id ─> pending ─ Kafka has it ─> accepted
             429                  401      400      403        409      503                       202

An id is remembered for as long as its time would be accepted, so no alert is accepted twice while the process lives.
After a restart one may be written again; the core worker knows it by its trade id.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from mdstream.errors import FrameError
from mdstream.repair.budget import Budget
from mdstream.stream.bounds import check_trade
from mdstream.ticks import TradeTick
from mdstream.venues.past import Limits
from mdstream.venues.tradingview.feed import TradingView

MAX_BODY_BYTES = 64 * 1024
MAX_SOURCES = 10_000
MAX_IDS = 500_000
"""About 100 MB. When none of them is too old, further alerts have to wait: forgetting one would let it in again."""
SECOND_NS = 1_000_000_000


class Refusal(NamedTuple):
    """An answer that is no acceptance. `retry_s`: when to try again; 0: never."""

    status: int
    error: str
    retry_s: int = 0


class Alert(NamedTuple):
    """An alert that may be written: the canonical symbol, the trade's id, and what it is remembered by."""

    symbol: str
    trade_id: str
    identity: bytes


UNAUTHORIZED = Refusal(401, "unauthorized")
TOO_LARGE = Refusal(413, f"more than {MAX_BODY_BYTES} bytes")
TOO_SLOW = Refusal(408, "the body did not arrive in time")
TRUNCATED = Refusal(400, "the body is shorter than announced")
REPEATED = Refusal(409, "already accepted")
PENDING = Refusal(503, "not acknowledged yet", 1)
BUSY = Refusal(503, "busy", 1)


class Rates:
    """How often each source may call: so many at once, so many per second."""

    def __init__(self, limits: Limits, *, max_sources: int = MAX_SOURCES) -> None:
        self._limits, self._max_sources = limits, max_sources
        self._budgets: OrderedDict[str, Budget] = OrderedDict()

    def admit(self, source: str, now_s: float) -> Refusal | None:
        """Count a request; a refusal if it is one too many. `now_s`: of a clock that never goes back."""
        budget = self._budgets.pop(source, None) or Budget(self._limits)
        self._budgets[source] = budget
        if len(self._budgets) > self._max_sources:
            self._budgets.popitem(last=False)
        wait_s = budget.wait_s(1.0, now_s)
        if wait_s:
            return Refusal(429, "too many requests", int(wait_s) + 1)
        budget.spend(1.0, now_s)
        return None


class _Seen:
    """Until when an alert is remembered, and whether Kafka has it."""

    __slots__ = ("accepted", "until_ns")

    def __init__(self, until_ns: int) -> None:
        self.until_ns, self.accepted = until_ns, False


class Remembered:
    """The alerts that were seen, for `keep_ns` each, oldest first. Bounded."""

    def __init__(self, keep_ns: int, *, max_ids: int = MAX_IDS) -> None:
        self._keep_ns, self._max_ids = keep_ns, max_ids
        self._seen: OrderedDict[bytes, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def begin(self, identity: bytes, now_ns: int) -> Refusal | None:
        """Remember a new alert as pending; a refusal if it was seen, or there is no room."""
        self._forget(now_ns)
        seen = self._seen.get(identity)
        if seen is not None:
            return REPEATED if seen.accepted else PENDING
        if len(self._seen) >= self._max_ids:
            return BUSY
        self._seen[identity] = _Seen(now_ns + self._keep_ns)
        return None

    def accept(self, identity: bytes) -> None:
        """Kafka has it."""
        seen = self._seen.get(identity)
        if seen is not None:  # it may have taken Kafka longer than it is remembered
            seen.accepted = True

    def _forget(self, now_ns: int) -> None:
        while self._seen and next(iter(self._seen.values())).until_ns < now_ns:
            self._seen.popitem(last=False)


class Reader:
    """Reads the bodies of senders that were let in."""

    def __init__(self, window_ns: int) -> None:
        self._feed, self._window_ns = TradingView(), window_ns

    def read(self, body: bytes, now_ns: int) -> Alert | Refusal:
        """The alert in a body that came at `now_ns`, or why it is none."""
        try:
            (tick,) = self._feed.decode(body)
            assert isinstance(tick, TradeTick)  # its only channel
            check_trade(tick)
        except (FrameError, msgspec.MsgspecError) as error:
            return Refusal(400, f"not an alert: {error}")
        assert tick.ts_exchange is not None  # an alert without a time is refused
        if abs(now_ns - tick.ts_exchange) > self._window_ns:
            return Refusal(
                403,
                f"its time is more than {self._window_ns // SECOND_NS} s from ours: "
                "give the time at which it was sent as timenow",
            )
        identity = blake2b(f"{tick.symbol}\0{tick.trade_id}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return Alert(tick.symbol, tick.trade_id, identity)
