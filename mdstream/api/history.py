"""What may be asked of the stored events, and the query for it. Pure: the time is an argument.

Every query has a symbol and a stretch of time that is not too long, and reads in the order of an index: it costs what
the page that it returns does. A page ends with a cursor, the place of its last row, and the next one begins behind it:
no row comes twice, and none is left out that was stored when its place was read.
"""

from __future__ import annotations

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from mdstream.bars.rules import BAR_INTERVAL, UNITS
from mdstream.db.schema import FEED_EVENTS, OHLCV, OWN_BARS, QUOTES, TICKS
from mdstream.errors import FrameError, MdstreamError
from mdstream.records import LAST_NS
from mdstream.venues.times import rfc3339_ns

MAX_ROWS, DEFAULT_ROWS = 10_000, 1_000
MAX_BARS = 100_000
"""The longest stretch of time that may be asked for, in bars."""
DAY_US = 86_400_000_000
LOOK_BACK_US = 366 * DAY_US
"""How long ago the last bar of a symbol may be, and how far behind an empty stretch the one before it is looked for."""
EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
FIRST_US, LAST_US = 0, LAST_NS // 1000

_SYMBOL = re.compile(r"[^\s\x00-\x1f]{1,64}")
_NANOS = re.compile(r"[0-9]{1,19}")

Row = Mapping[str, Any]


class QueryError(MdstreamError):
    """A request that is not answered; the text says what to change."""


class Kind(NamedTuple):
    """A kind of stored events: its columns as they are shown, and the columns that order the rows of a symbol."""

    table: str
    columns: tuple[str, ...]
    order: tuple[str, ...]
    most_days: int
    condition: str = "TRUE"
    allowed: tuple[str, ...] = ("symbol", "from", "to", "limit", "cursor")
    """The parameters of a request."""


def _columns(names: str) -> tuple[str, ...]:
    return tuple(names.split())


KINDS = {
    "trades": Kind(
        TICKS.name,
        _columns("symbol timestamp seq exchange source trade_id price size side ts_exchange_ns ts_recv_ns extra"),
        ("timestamp", "coalesce(seq, -1)", "exchange", "source", "trade_id"),
        most_days=31,
    ),
    "quotes": Kind(
        QUOTES.name,
        _columns("symbol timestamp seq exchange source bid bid_size ask ask_size ts_exchange_ns ts_recv_ns"),
        ("timestamp", "seq"),
        most_days=31,
    ),
    "bars": Kind(
        OHLCV.name,
        _columns("symbol timestamp interval open high low close volume quote_volume trades revision extra"),
        ("timestamp",),
        most_days=0,  # as many as MAX_BARS
        condition="exchange = %(exchange)s AND interval = %(interval)s",
        allowed=("symbol", "interval", "from", "to", "limit", "cursor"),
    ),
    "gaps": Kind(
        FEED_EVENTS.name,
        _columns("symbol timestamp source state reason first_id last_id missing took_ns ts_recv_ns"),
        ("timestamp", "event_id"),
        most_days=366,
        condition="type = 'gap'",
    ),
}
"""By the last part of the path /v1/..."""


class Query(NamedTuple):
    """A statement for psycopg, its parameters, and how many rows a page has; it asks for one more."""

    kind: Kind
    statement: str
    values: dict[str, Any]
    limit: int


class Page(NamedTuple):
    """Rows, and the cursor for those behind them; None if there are none."""

    kind: Kind
    rows: Sequence[Row]
    cursor: str | None

    def pieces(self, size: int) -> Iterator[list[dict[str, Any]]]:
        """The rows as they are shown, so many at a time."""
        for at in range(0, len(self.rows), size):
            yield [{name: _shown(row[name]) for name in self.kind.columns} for row in self.rows[at : at + size]]


def once(given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The parameters of a request by name. Raises QueryError for one that comes twice: only one of them would count."""
    found: dict[str, str] = {}
    for name, value in given:
        if name in found:
            raise QueryError(f"{name[:40]} is given twice: ask for one after the other")
        found[name] = value
    return found


def query_of(name: str, given: Mapping[str, str], now_us: int) -> Query:
    """The query that a request's parameters ask for: symbol, from, to, limit, cursor, and interval of bars.

    Times are RFC 3339 in UTC, or ns since 1970; [from, to). Raises QueryError.
    """
    kind = KINDS[name]
    unknown = sorted(given.keys() - set(kind.allowed))
    if unknown:
        raise QueryError(f"unknown parameter {unknown[0][:40]!r}: there are {', '.join(kind.allowed)}")
    symbol = symbol_in(given)
    most_us = kind.most_days * DAY_US
    values: dict[str, Any] = {"symbol": symbol}
    if name == "bars":
        interval = given.get("interval", "1m")
        if not re.fullmatch(BAR_INTERVAL, interval):
            raise QueryError(f"interval={interval[:40]!r}: expected one like 1s, 1m or 1h")
        most_us = MAX_BARS * int(interval[:-1]) * UNITS[interval[-1]] // 1000
        values |= {"interval": interval, "exchange": OWN_BARS}
    to_us = _time_us("to", given["to"]) if "to" in given else now_us
    from_us = _time_us("from", given["from"]) if "from" in given else max(FIRST_US, to_us - min(most_us, DAY_US))
    _check_stretch(from_us, to_us, most_us)
    limit = _limit(given.get("limit", str(DEFAULT_ROWS)))
    values |= {"from": moment(from_us), "to": moment(to_us), "rows": limit + 1}
    after = ""
    if "cursor" in given:
        places = _places(given["cursor"], kind)
        values |= {f"after_{number}": place for number, place in enumerate(places)}
        values["from"] = max(values["from"], places[0])  # the rows before it are not even read
        after = f" AND ({', '.join(kind.order)}) > ({', '.join(f'%(after_{n})s' for n in range(len(places)))})"
    return Query(kind, _statement(kind, after), values, limit)


def _statement(kind: Kind, after: str) -> str:
    columns = ", ".join(kind.columns)
    places = ", ".join(f"{place} AS place_{number}" for number, place in enumerate(kind.order))
    where = f"symbol = %(symbol)s AND timestamp >= %(from)s AND timestamp < %(to)s AND {kind.condition}{after}"
    # All of it but the values is ours.
    return f"SELECT {columns}, {places} FROM {kind.table} WHERE {where} ORDER BY {', '.join(kind.order)} LIMIT %(rows)s"  # noqa: S608


def page_of(query: Query, found: Sequence[Row]) -> Page:
    """The page of the rows that were found."""
    rows = found[: query.limit]
    return Page(query.kind, rows, _cursor(query.kind, rows[-1]) if len(found) > query.limit else None)


def _cursor(kind: Kind, last: Row) -> str:
    at, *others = (last[f"place_{number}"] for number in range(len(kind.order)))
    return urlsafe_b64encode(json.dumps([us_of(at), *others]).encode()).decode().rstrip("=")


def _shown(value: Any) -> Any:
    """Times in ns, as everywhere."""
    return us_of(value) * 1000 if isinstance(value, datetime) else value


def us_of(at: datetime) -> int:
    """Microseconds since 1970."""
    return (at - EPOCH) // MICROSECOND


def moment(us: int) -> datetime:
    """The inverse."""
    return EPOCH + us * MICROSECOND


def symbol_in(given: Mapping[str, str]) -> str:
    """The symbol that a request names. Raises QueryError."""
    symbol = given.get("symbol", "").upper()
    if not symbol:
        raise QueryError("symbol is missing: all symbols at once would be a scan, so ask for one, like symbol=BTCUSDT")
    if not _SYMBOL.fullmatch(symbol):
        raise QueryError(f"symbol={symbol[:40]!r}: expected one like BTCUSDT")
    return symbol


def _time_us(name: str, text: str) -> int:
    try:
        ns = int(text) if _NANOS.fullmatch(text) else rfc3339_ns(text)
    except FrameError:
        ns = -1
    if not FIRST_US <= ns // 1000 <= LAST_US:
        raise QueryError(f"{name}={text[:40]!r}: expected a time like 2026-01-05T15:00:00Z, or ns since 1970")
    return -(-ns // 1000)  # rounded up: stored times are rounded down


def _check_stretch(from_us: int, to_us: int, most_us: int) -> None:
    if from_us >= to_us:
        raise QueryError("from is not before to")
    if to_us - from_us > most_us:
        most = f"{most_us / DAY_US:.4g} days"
        raise QueryError(f"from and to are {(to_us - from_us) / DAY_US:.4g} days apart, at most {most}: narrow them")


def _limit(text: str) -> int:
    if not re.fullmatch("[0-9]{1,6}", text) or not 1 <= int(text) <= MAX_ROWS:
        raise QueryError(f"limit={text[:40]!r}: expected 1 to {MAX_ROWS}")
    return int(text)


def _storable(place: int | str) -> bool:
    """Whether PostgreSQL has such a value: it has no text with a NUL or with half a character."""
    return isinstance(place, int) or (place.encode(errors="replace").decode() == place and "\0" not in place)


def _places(cursor: str, kind: Kind) -> list[Any]:
    """The place of a cursor, a value for each column of the order. Raises QueryError for a cursor that is not ours."""
    types = [int if place.endswith(("seq", "-1)")) else str for place in kind.order[1:]]
    try:
        at_us, *others = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        ours = type(at_us) is int and FIRST_US <= at_us <= LAST_US and [type(each) for each in others] == types
        ours = ours and all(map(_storable, others))
    except (ValueError, TypeError, RecursionError):
        ours = False
    if not ours:
        raise QueryError("cursor is not one of ours for this kind: pass `next` of the page before, unchanged")
    return [moment(at_us), *others]
