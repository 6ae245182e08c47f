"""The tables as writers and readers see them at the newest schema: names, columns, keys. Values only.

The migrations create them (mdstream/db/migrations/versions); a test keeps the two in sync. Rules for every writer:

- `timestamp` has microseconds, rounded down. It is the venue's time, or the time of receipt if the venue gives none; a
  bar's is its opening. The same event has the same timestamp, however often it is written.
- Exact times are stored beside it, in nanoseconds since 1970: `ts_exchange_ns` (null if the venue gives none) and
  `ts_recv_ns`.
- `exchange` is where it was traded (the event's `venue`, or else its `provider`), `source` the provider it came from.
- `extra` holds fields of an event without a column, as an object, and is null if there are none: for a trade `count`,
  `recovered`, `backfilled`, `conditions`, `correction` and the `corrects` fields, each only if it is not the
  default; for a venue's bar of the past `provider` and `backfilled`.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

REVISIONS = ("0001", "0002")
"""Every schema so far, oldest first: what the version table may hold."""
HEAD = REVISIONS[-1]
VERSION_TABLE = "mdstream_schema_version"
"""A name of our own: the older service may have left an `alembic_version` in the same database."""


class Column(NamedTuple):
    """A column with the name PostgreSQL gives its type."""

    name: str
    type: str
    null: bool = False


class Table(NamedTuple):
    """A table; rows with the same `key` are the same event."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in order."""
        return tuple(column.name for column in self.columns)


TEXT, FLOAT, INT, TIME, JSON = "text", "double precision", "bigint", "timestamp with time zone", "jsonb"

TICKS = Table(
    "market_data_ticks",
    (
        Column("exchange", TEXT),
        Column("symbol", TEXT),
        Column("timestamp", TIME),
        Column("source", TEXT),
        Column("trade_id", TEXT),
        Column("price", FLOAT, null=True),
        Column("size", FLOAT, null=True),
        Column("side", TEXT, null=True),
        Column("seq", INT, null=True),
        Column("ts_exchange_ns", INT, null=True),
        Column("ts_recv_ns", INT, null=True),
        Column("extra", JSON, null=True),
    ),
    key=("exchange", "symbol", "timestamp", "source", "trade_id"),
)
"""Trades. Only rows of the older service lack a price, a size, `seq` or `ts_recv_ns`, and have an empty `trade_id`."""


def trade_id(given: str, seq: int) -> str:
    """The value of `trade_id`: the venue's id, or `#seq` if it gives none, so that no two trades become one."""
    return given or f"#{seq}"


QUOTES = Table(
    "market_data_quotes",
    (
        Column("symbol", TEXT),
        Column("timestamp", TIME),
        Column("seq", INT),
        Column("exchange", TEXT),
        Column("source", TEXT),
        Column("bid", FLOAT, null=True),
        Column("bid_size", FLOAT, null=True),
        Column("ask", FLOAT, null=True),
        Column("ask_size", FLOAT, null=True),
        Column("ts_exchange_ns", INT, null=True),
        Column("ts_recv_ns", INT),
    ),
    key=("symbol", "timestamp", "seq"),
)

OHLCV = Table(
    "market_data_ohlcv",
    (
        Column("exchange", TEXT),
        Column("symbol", TEXT),
        Column("interval", TEXT),
        Column("timestamp", TIME),
        Column("open", FLOAT, null=True),
        Column("high", FLOAT, null=True),
        Column("low", FLOAT, null=True),
        Column("close", FLOAT, null=True),
        Column("volume", FLOAT, null=True),
        Column("quote_volume", FLOAT, null=True),
        Column("trades", INT, null=True),
        Column("revision", INT),
        Column("extra", JSON, null=True),
    ),
    key=("exchange", "symbol", "interval", "timestamp"),
)
"""Bars; of the same key the highest `revision` stays. Nulls only in rows of the older service."""

OWN_BARS = "mdstream"
"""`exchange` of the bars on md.bars: made of the canonical trades, whatever their sources, or a venue's of the past."""

FEED_EVENTS = Table(
    "market_data_feed_events",
    (
        Column("symbol", TEXT),
        Column("timestamp", TIME),
        Column("event_id", TEXT),
        Column("type", TEXT),
        Column("source", TEXT),
        Column("state", TEXT, null=True),
        Column("reason", TEXT, null=True),
        Column("previous", TEXT, null=True),
        Column("first_id", TEXT, null=True),
        Column("last_id", TEXT, null=True),
        Column("missing", INT, null=True),
        Column("took_ns", INT, null=True),
        Column("silent_since_ns", INT, null=True),
        Column("ts_recv_ns", INT),
    ),
    key=("symbol", "timestamp", "event_id"),
)
"""The events of md.status: `type` is status, heartbeat or gap, `timestamp` the time of receipt, `source` the provider.

These events have no number: `event_id` is `event_id()` of the event's bytes, which a repeat shares.
"""


def event_id(value: bytes) -> str:
    """32 hexadecimal digits that identify the bytes of an event on md.status."""
    return blake2b(value, digest_size=16).hexdigest()


TABLES = (TICKS, QUOTES, OHLCV, FEED_EVENTS)
