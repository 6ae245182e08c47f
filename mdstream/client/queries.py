"""What a stored event is read with: for each kind its fields, and the query of each database. No I/O.

A row has the fields of the event, in their order. Its time is the event's, `time_of`: the venue's, or ours if the venue
gives none; a bar's is its opening. Rows come in the order of these times.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from mdstream.client.kinds import KINDS
from mdstream.db import schema
from mdstream.errors import SettingsError

SKEW_NS = 3_600_000_000_000
"""A venue's clock is not further ahead of ours than this: what limits a search by the time of receipt."""

FIELDS: dict[str, tuple[str, ...]] = {kind: of.__struct_fields__ for kind, of in KINDS.items()}
"""The columns of each kind."""


class Request(NamedTuple):
    """The events of a symbol with a time in [begin_ns, end_ns), whole microseconds; of bars those of an interval."""

    kind: str
    symbol: str
    begin_ns: int
    end_ns: int
    interval: str = "1m"

    def time_of(self, row: tuple[Any, ...]) -> int:
        """The time of a row in ns."""
        if self.kind == "bars":
            return int(row[_OPENING])
        venue, ours = (row[FIELDS[self.kind].index(name)] for name in ("ts_exchange", "ts_recv"))
        return int(ours if venue is None else venue)


_OPENING = FIELDS["bars"].index("ts_open")


def sqlite(request: Request) -> tuple[str, dict[str, Any]]:
    """The query of the files role's database, and its values. Its columns have the names of the fields."""
    query = f"SELECT {', '.join(FIELDS[request.kind])} FROM {_SQLITE[request.kind]}"  # noqa: S608  our names
    return query, {**request._asdict(), "least_ns": request.begin_ns - SKEW_NS}


_RECEIVED = """ WHERE symbol = :symbol AND ts_recv >= :least_ns
    AND coalesce(ts_exchange, ts_recv) >= :begin_ns AND coalesce(ts_exchange, ts_recv) < :end_ns
    ORDER BY coalesce(ts_exchange, ts_recv), seq"""
_SQLITE = {
    # Each half by an index; for a condition with OR, SQLite would read all of the symbol.
    "trades": """(SELECT *, ts_exchange AS time FROM trades
            WHERE symbol = :symbol AND ts_exchange >= :begin_ns AND ts_exchange < :end_ns
        UNION ALL SELECT *, ts_recv AS time FROM trades
            WHERE symbol = :symbol AND ts_exchange IS NULL AND ts_recv >= :begin_ns AND ts_recv < :end_ns)
        ORDER BY time, seq""",
    "quotes": "quotes" + _RECEIVED,
    "books": "books" + _RECEIVED,
    "bars": """bars WHERE symbol = :symbol AND interval = :interval AND ts_open >= :begin_ns AND ts_open < :end_ns
        ORDER BY ts_open""",
}


def timescale(request: Request) -> tuple[LiteralString, dict[str, Any]]:
    """The query of the timescale role's database, and its values; without rows of the older service.

    Raises SettingsError for books, which it does not have.
    """
    if request.kind not in _TIMESCALE:
        raise SettingsError(
            "the database has no books: SQLite has (source='sqlite'), with books in MDSTREAM_FILES_EVENTS"
        )
    values = {
        **request._asdict(),
        "begin": _time(request.begin_ns),
        "end": _time(request.end_ns),
        "own": schema.OWN_BARS,
    }
    return _TIMESCALE[request.kind], values


def _time(ns: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=ns // 1000)


# Ordered by `timestamp` first, for its index, which has whole microseconds.
_TIMESCALE: dict[str, LiteralString] = {
    "trades": """SELECT symbol, seq, source, CASE left(trade_id, 1) WHEN '#' THEN '' ELSE trade_id END,
            price, size, side, ts_exchange_ns, ts_recv_ns, coalesce((extra ->> 'count')::bigint, 1),
            coalesce((extra ->> 'recovered')::boolean, false), nullif(exchange, source), extra -> 'conditions',
            extra ->> 'correction', extra ->> 'corrects',
            (extra ->> 'corrects_price')::float8, (extra ->> 'corrects_size')::float8,
            coalesce((extra ->> 'backfilled')::boolean, false)
        FROM market_data_ticks
        WHERE symbol = %(symbol)s AND timestamp >= %(begin)s AND timestamp < %(end)s AND ts_recv_ns IS NOT NULL
        ORDER BY timestamp, coalesce(ts_exchange_ns, ts_recv_ns), seq""",
    "quotes": """SELECT symbol, seq, source, bid, bid_size, ask, ask_size, ts_exchange_ns, ts_recv_ns,
            nullif(exchange, source)
        FROM market_data_quotes
        WHERE symbol = %(symbol)s AND timestamp >= %(begin)s AND timestamp < %(end)s
        ORDER BY timestamp, coalesce(ts_exchange_ns, ts_recv_ns), seq""",
    "bars": """SELECT symbol, interval, (extract(epoch FROM timestamp) * 1000000)::bigint * 1000,
            open, high, low, close, volume, quote_volume, trades, revision,
            extra ->> 'provider', coalesce((extra ->> 'backfilled')::boolean, false)
        FROM market_data_ohlcv
        WHERE exchange = %(own)s AND symbol = %(symbol)s AND interval = %(interval)s
            AND timestamp >= %(begin)s AND timestamp < %(end)s
        ORDER BY timestamp""",
}
"""By kind; the columns are the event's fields in their order."""
