"""Writers to compare the timescale role with: `python -m benchmarks.writers copy|insert URL ROWS`.

    copy    the limit: one binary COPY of finished rows into the empty table, in one transaction, once
    insert  the usual way: INSERT with a thousand rows per statement, repeats left out, a commit each

Both have the rows in memory before the clock starts. Prints one JSON line, as benchmarks.bare does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain

from psycopg import AsyncConnection

from benchmarks.canonical_trades import message
from mdstream.db import connection as db
from mdstream.db import schema
from mdstream.events import Trade
from mdstream.sinks.rows import FORMS, Row, wire_types

TABLE = schema.TICKS
ROWS_A_STATEMENT = 1000
Y2000 = datetime(2000, 1, 1, tzinfo=UTC)


async def copy(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    async with connection.transaction(), connection.cursor() as cursor:
        columns = ", ".join(TABLE.names)
        async with cursor.copy(f"COPY {TABLE.name} ({columns}) FROM STDIN (FORMAT BINARY)") as stream:
            stream.set_types(wire_types(TABLE))
            for row in rows:
                await stream.write_row(row)


async def insert(connection: AsyncConnection, rows: Sequence[Row]) -> None:
    columns, slots = ", ".join(TABLE.names), ", ".join(["%s"] * len(TABLE.columns))
    for first in range(0, len(rows), ROWS_A_STATEMENT):
        some = rows[first : first + ROWS_A_STATEMENT]
        values = ", ".join([f"({slots})"] * len(some))
        statement = f"INSERT INTO {TABLE.name} ({columns}) VALUES {values} ON CONFLICT DO NOTHING"
        await connection.execute(statement, list(chain.from_iterable(some)))


def _readable(row: Row) -> Row:
    """The row with its time as a datetime: COPY's is in microseconds since 2000."""
    at = TABLE.names.index("timestamp")
    return (*row[:at], Y2000 + timedelta(microseconds=row[at]), *row[at + 1 :])


WRITERS: dict[str, Callable[[AsyncConnection, Sequence[Row]], Awaitable[None]]] = {"copy": copy, "insert": insert}


async def main(writer: str, url: str, count: int) -> None:
    form = FORMS[Trade]
    rows = [form.row(*message(number)) for number in range(count)]
    if writer == "insert":
        rows = [_readable(row) for row in rows]
    async with await db.connect(url) as connection:
        began, used = time.perf_counter(), time.process_time()
        await WRITERS[writer](connection, rows)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"frames": len(rows), "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
