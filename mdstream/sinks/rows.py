"""Events as rows of the database: which table, and the values of its columns in their order. Pure.

A row is what psycopg writes in COPY's binary form as the types of `wire_types`. Times are given as PostgreSQL keeps
them, integer microseconds since 2000: a third of the cost of a datetime. They are rounded down, so that the same event
has the same time, before 1970 too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from mdstream.db import schema
from mdstream.db.schema import Table
from mdstream.events import Bar, Event, FeedStatus, Gap, Heartbeat, Quote, Trade

Row = tuple[Any, ...]

EPOCH_US = 946_684_800_000_000
"""2000-01-01 in microseconds since 1970: PostgreSQL's own zero."""
MAX_NS = (1 << 63) - 1
"""The year 2262. Later nanoseconds do not fit a bigint, and psycopg raises; a bar has no such column."""


class Form(NamedTuple):
    """How events of one type are stored. `row` gets the event and its bytes; raises ValueError if it does not fit."""

    table: Table
    row: Callable[[Any, bytes], Row]


def wire_types(table: Table) -> list[str]:
    """The types that the columns of a row are written as."""
    return [schema.INT if column.type == schema.TIME else column.type for column in table.columns]


def _tick(t: Trade, _: bytes) -> Row:
    ts_ns = t.ts_recv if t.ts_exchange is None else t.ts_exchange
    return (
        t.venue or t.provider, t.symbol, ts_ns // 1000 - EPOCH_US, t.provider, schema.trade_id(t.trade_id, t.seq),
        t.price, t.size, t.side, t.seq, t.ts_exchange, t.ts_recv, _extra(t),
    )  # fmt: skip


def _extra(t: Trade) -> dict[str, Any] | None:
    if t.count == 1 and not t.recovered and t.conditions is None and t.correction is None:
        return None
    given = {name: getattr(t, name) for name in _DEFAULTS}
    return {name: value for name, value in given.items() if value != _DEFAULTS[name]}


_DEFAULTS = {
    "count": 1,
    "recovered": False,
    "conditions": None,
    "correction": None,
    "corrects": None,
    "corrects_price": None,
    "corrects_size": None,
    "backfilled": False,
}
"""Of the fields of a trade without a column."""


def _quote(q: Quote, _: bytes) -> Row:
    ts_ns = q.ts_recv if q.ts_exchange is None else q.ts_exchange
    return (
        q.symbol, ts_ns // 1000 - EPOCH_US, q.seq, q.venue or q.provider, q.provider,
        q.bid, q.bid_size, q.ask, q.ask_size, q.ts_exchange, q.ts_recv,
    )  # fmt: skip


def _bar(b: Bar, _: bytes) -> Row:
    if abs(b.ts_open) > MAX_NS:
        raise ValueError(f"ts_open={b.ts_open}: the database holds times from 1677 to 2262")
    return (
        schema.OWN_BARS, b.symbol, b.interval, b.ts_open // 1000 - EPOCH_US, b.open, b.high, b.low, b.close,
        b.volume, b.quote_volume, b.trades, b.revision,
        {"provider": b.provider, "backfilled": True} if b.backfilled else None,
    )  # fmt: skip


def _status(s: FeedStatus, value: bytes) -> Row:
    return _feed_event(s, value, "status", s.state, s.reason, s.previous)


def _heartbeat(h: Heartbeat, value: bytes) -> Row:
    return _feed_event(h, value, "heartbeat", h.state, silent_since_ns=h.silent_since)


def _gap(g: Gap, value: bytes) -> Row:
    return _feed_event(g, value, "gap", g.state, g.reason, None, g.first_id, g.last_id, g.missing, g.took_ns)


def _feed_event(
    event: FeedStatus | Heartbeat | Gap,
    value: bytes,
    kind: str,
    state: str | None = None,
    reason: str | None = None,
    previous: str | None = None,
    first_id: str | None = None,
    last_id: str | None = None,
    missing: int | None = None,
    took_ns: int | None = None,
    silent_since_ns: int | None = None,
) -> Row:
    return (
        event.symbol, event.ts_recv // 1000 - EPOCH_US, schema.event_id(value), kind, event.provider, state, reason,
        previous, first_id, last_id, missing, took_ns, silent_since_ns, event.ts_recv,
    )  # fmt: skip


FORMS: dict[type[Event], Form] = {
    Trade: Form(schema.TICKS, _tick),
    Quote: Form(schema.QUOTES, _quote),
    Bar: Form(schema.OHLCV, _bar),
    FeedStatus: Form(schema.FEED_EVENTS, _status),
    Heartbeat: Form(schema.FEED_EVENTS, _heartbeat),
    Gap: Form(schema.FEED_EVENTS, _gap),
}
"""Books have no table: twenty levels a side, ten times a second, are for readers of md.books."""
