"""A trade in the form common to all hops of the audit, and the buckets that trades are counted in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

from mdstream.events import Correction

MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
NO_ID_SPACE = ""


class AuditTrade(NamedTuple):
    """One trade as a hop holds it. `time_ns` is the venue's time, ours if it gives none; `id_space` as in TradeTick.

    `received_ns` is when our ingestor received it, 0 at a hop that does not know; `recovered`: it came by repair or
    backfill; `fills`: how many it consists of; `correction`, `corrects` and `backfilled`: as in events.Trade; if the
    hop knows.
    """

    provider: str
    symbol: str
    trade_id: str
    price: float
    size: float
    side: str | None
    time_ns: int
    id_space: str = NO_ID_SPACE
    received_ns: int = 0
    recovered: bool = False
    fills: int = 1
    correction: Correction | None = None
    corrects: str | None = None
    backfilled: bool = False


class Place(NamedTuple):
    """A record's position in its topic."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class Bucket(NamedTuple):
    """One instrument's trades in one minute: [minute, minute + 1) in minutes since 1970."""

    provider: str
    symbol: str
    minute: int

    @property
    def start(self) -> str:
        return datetime.fromtimestamp(self.minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


Identity = tuple[str, str, str, int]
"""Provider, symbol, trade id and the venue's time: what makes two records the same trade."""


def bucket_of(trade: AuditTrade) -> Bucket:
    return Bucket(trade.provider, trade.symbol, trade.time_ns // MINUTE_NS)


def identity_of(trade: AuditTrade) -> Identity:
    return trade.provider, trade.symbol, trade.trade_id, trade.time_ns


def fingerprint(trade: AuditTrade) -> int:
    """64 bits of what must be the same at every hop."""
    price, size = float(trade.price), float(trade.size)
    return hash_of(f"{trade.provider}|{trade.symbol}|{trade.trade_id}|{price!r}|{size!r}|{trade.side}".encode())


@dataclass(frozen=True)
class Scope:
    """What is audited: minutes [first, end), instruments and providers (empty: all).

    Trades received at `received_before_ns` or later are skipped: they may not have reached every hop yet. This includes
    late and repaired trades of minutes long past.
    """

    first_minute: int = 0
    end_minute: int = 1 << 62
    received_before_ns: int = 1 << 80
    symbols: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()

    def has(self, bucket: Bucket) -> bool:
        return (
            self.first_minute <= bucket.minute < self.end_minute
            and (not self.symbols or bucket.symbol in self.symbols)
            and (not self.providers or bucket.provider in self.providers)
        )

    def takes(self, trade: AuditTrade, bucket: Bucket) -> bool:
        return self.has(bucket) and trade.received_ns < self.received_before_ns

    def numbers(self, symbol: str, minute: int) -> bool:
        """Whether a number is judged, whatever its provider: numbers run through all of them."""
        return self.first_minute <= minute < self.end_minute and (not self.symbols or symbol in self.symbols)


def hash_of(value: bytes) -> int:
    """64 bits of any bytes."""
    return int.from_bytes(blake2b(value, digest_size=8).digest(), "big")
