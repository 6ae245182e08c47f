"""The older service's tables: recognized by their columns, set aside, copied, put back by a downgrade.

    market_data_ticks, key (exchange, symbol, timestamp, source)  ──>  mdstream_legacy.market_data_ticks, untouched
                                                                         └─ every row ──> market_data_ticks, trade_id ''

Its key is a part of ours, so no two rows become one. The old tables take space until somebody drops them, and make the
downgrade exact.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from mdstream.db.engine import place_of
from mdstream.errors import SchemaError

log = logging.getLogger(__name__)

SCHEMA = "mdstream_legacy"
TIMES = ("timestamp with time zone", "timestamp without time zone")


class Old(NamedTuple):
    """A table of the older service. `has` and `lacks` identify it; `values`: SQL for the columns that it lacks.

    `also`: by our column's name, its other names there.
    """

    has: frozenset[str]
    lacks: str
    values: Mapping[str, str]
    also: Mapping[str, tuple[str, ...]] = {}


OLD = {
    "market_data_ticks": Old(
        frozenset({"exchange", "symbol", "timestamp", "source", "price"}),
        lacks="trade_id",
        values={"trade_id": "''"},
        also={"size": ("volume", "quantity", "qty", "amount")},
    ),
    "market_data_ohlcv": Old(
        frozenset({"exchange", "symbol", "interval", "timestamp", "open", "high", "low", "close"}),
        lacks="revision",
        values={"revision": "0"},
    ),
}

Columns = Mapping[str, str]
"""Name to type, in the table's order."""


def set_aside(connection: Connection, names: Iterable[str]) -> None:
    """Move the named tables that the older service left into their own schema, with their indexes.

    Raises SchemaError if one of them is foreign.
    """
    for name in names:
        found = _columns(connection, name)
        if not found:
            continue
        if reason := _foreign(name, found):
            raise SchemaError(
                place_of(connection),
                f"{name} is there already, and is neither mdstream's nor the older service's ({reason}): rename it "
                f"(ALTER TABLE {name} RENAME TO another_name) and run `mdstream db upgrade` again",
            )
        connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
        connection.execute(text(f"ALTER TABLE {name} SET SCHEMA {SCHEMA}"))


def take_over(connection: Connection) -> None:
    """Copy every row of the tables set aside into our new, empty ones."""
    connection.execute(text("SET LOCAL TIME ZONE 'UTC'"))  # the zone of a timestamp without one
    for name, old in OLD.items():
        found = _columns(connection, f"{SCHEMA}.{name}")
        if not found:
            continue
        statement, known = _copy(name, _columns(connection, name), found, old)
        rows = connection.execute(text(statement), {"known": known}).rowcount
        log.info(
            "%s: took over %d rows of the older service; DROP TABLE %s.%s frees their space", name, rows, SCHEMA, name
        )


def put_back(connection: Connection) -> None:
    """Move the tables that were set aside back to their place. Ours are already dropped."""
    if connection.scalar(text(f"SELECT to_regnamespace('{SCHEMA}')")) is None:
        return
    home = connection.scalar(text("SELECT quote_ident(current_schema())"))
    for name in OLD:
        connection.execute(text(f"ALTER TABLE IF EXISTS {SCHEMA}.{name} SET SCHEMA {home}"))
    connection.execute(text(f"DROP SCHEMA {SCHEMA}"))


def _foreign(name: str, found: Columns) -> str | None:
    """Why a table is not the older service's; None if it is."""
    old = OLD.get(name)
    if old is None:
        return "which had none of that name"
    if missing := old.has - found.keys():
        return f"it has no column {', '.join(sorted(missing))}"
    if old.lacks in found:
        return f"which had no column {old.lacks}"
    if found["timestamp"] not in TIMES:
        return f"its timestamp is of type {found['timestamp']}"
    return None


def _copy(name: str, wanted: Columns, found: Columns, old: Old) -> tuple[str, list[str]]:
    """The INSERT of every row, and the columns that are copied by name; the others go into `extra`."""
    known, values = set(wanted), []
    for column, kind in wanted.items():
        source = next((other for other in (column, *old.also.get(column, ())) if other in found), None)
        if source is None:
            values.append(old.values.get(column, "NULL"))
        else:
            known.add(source)
            values.append(f'CAST("{source}" AS {kind})')
    if found.keys() - known:
        extra = list(wanted).index("extra")
        given = "'{}'" if values[extra] == "NULL" else f"coalesce({values[extra]}, '{{}}')"
        values[extra] = f"{given} || (to_jsonb(old) - CAST(:known AS text[]))"
    columns = ", ".join(f'"{column}"' for column in wanted)
    return f"INSERT INTO {name} ({columns}) SELECT {', '.join(values)} FROM {SCHEMA}.{name} old", sorted(known)  # noqa: S608  our own names


def _columns(connection: Connection, table: str) -> Columns:
    """The columns of a table; empty if there is no such table."""
    rows: Any = connection.execute(
        text(
            "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
            "WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ),
        {"table": table},
    )
    return {str(name): str(kind) for name, kind in rows}
