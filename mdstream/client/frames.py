"""Stored events of a span of time as a frame."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from mdstream.client.arrow import Batches
from mdstream.client.extras import needed
from mdstream.client.stored import read, request_of
from mdstream.config import Settings, load
from mdstream.errors import SettingsError

INTO = ("pandas", "polars", "arrow")


def history(
    symbol: str,
    start: str | date,
    end: str | date,
    kind: Literal["trades", "quotes", "books", "bars"] = "trades",
    *,
    interval: str | None = None,
    into: Literal["pandas", "polars", "arrow"] = "pandas",
    source: Literal["timescale", "sqlite"] | None = None,
    settings: Settings | None = None,
) -> Any:
    """The events of a symbol with a time in [start, end), in its order, as a pandas or polars frame or a pyarrow table.

    A column is a field of the event (docs/events.md); times are timestamps in ns, UTC. `interval`: of bars, "1m" by
    default. `source`: by default TimescaleDB if MARKET_DATA_DATABASE_URL is set, else SQLite.

    Raises SettingsError, DatabaseError.
    """
    if into not in INTO:
        raise SettingsError(f"into={into!r}: expected one of {', '.join(INTO)}")
    request, batches = request_of(kind, symbol, start, end, interval), Batches(kind, into)
    library = needed("pyarrow" if into == "arrow" else into, into)
    rows = read(settings or load(), request, source)
    table = needed("pyarrow", into).Table.from_batches(map(batches.batch, rows), batches.schema)
    if into == "pandas":
        return table.to_pandas()
    return library.from_arrow(table) if into == "polars" else table
