"""One connection to the database that writes groups of rows, each in a transaction.

    staged ──(CLEAN_GROUPS groups in a row without a repeat)──> straight
       ^                                                           │
       └──────────(one fails at a row, or has a number             │
                   that does not rise: this group)─────────────────┘

A session begins staged: after a crash or a rebalance the first groups bring repeats, which cost nothing there. Straight
takes half the time, but a single repeat fails the whole group, which is then staged. Staged groups are compared with
what is stored: see numbers.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, NamedTuple

import psycopg
from psycopg import AsyncConnection, AsyncCursor, adapters

from mdstream.db import connection as db
from mdstream.db.schema import Table
from mdstream.sinks.numbers import Numbers
from mdstream.sinks.rows import Row
from mdstream.sinks.spans import Span, spans
from mdstream.sinks.staging import LOOKUP, NUMBER, STATEMENTS, Statements

CLEAN_GROUPS = 2
MS = 1000
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""An acknowledged row must outlive a crash of the server, whatever the database's default."""
SETTINGS = {
    # A bar's new revision unpacks the thousand bars around it. TimescaleDB refuses a group that unpacks 100,000 rows in
    # all, and would do so at every retry. Without the extension the setting is unused and harmless.
    "timescaledb.max_tuples_decompressed_per_dml_transaction": "0",
    # The join with what is stored reads its time range once. Statistics lag behind a table that only grows at its end:
    # a range presumed empty would be scanned for each row.
    "enable_nestloop": "off",
    "enable_mergejoin": "off",
}
NEAR = timedelta(minutes=1)
"""How far from a group's own times a number is looked up."""
Y2000 = datetime(2000, 1, 1, tzinfo=UTC)

# SQLSTATE classes that a single row can cause: data exceptions, integrity constraints, program limits (a text too long
# for an index).
_ROW_STATES = ("22", "23", "54")
# Without a SQLSTATE: what psycopg cannot write as the column's type, a lone surrogate or a number beyond a bigint.
_ROW_ERRORS = (psycopg.Error, ValueError, OverflowError)

Rows = Mapping[str, Sequence[Row]]
"""By the name of their table."""


class Written(NamedTuple):
    """How many rows were new, and symbol and number of those whose number is stored with another content."""

    new: int
    clashes: Collection[tuple[str, int]] = ()


class RowRefusedError(Exception):
    """A row of the write can never be stored; the text is the reason."""


class Session:
    """A connection prepared for writing. After any error but RowRefusedError it is unusable."""

    def __init__(self, connection: AsyncConnection, straight: Collection[str]) -> None:
        self._connection = connection
        self._straight = straight  # tables that may be copied into
        self._clean = 0  # groups in a row without a repeat
        self._numbers = Numbers()

    @classmethod
    async def begin(cls, url: str, *, write_limit_s: float, lock_limit_s: float) -> Session:
        """Raises DatabaseError, SettingsError or psycopg.Error; not retriable if an operator has to act."""
        connection = await db.connect(url)
        try:
            await db.check(connection)
            await _set_limits(connection, write_limit_s=write_limit_s, lock_limit_s=lock_limit_s)
            return cls(connection, await _prepare(connection))
        except BaseException:
            await connection.close()
            raise

    @property
    def closed(self) -> bool:
        return self._connection.closed

    async def close(self) -> None:
        await self._connection.close()

    async def write(self, rows: Rows) -> Written:
        """Store the rows. Raises RowRefusedError, and then nothing is stored; psycopg.Error."""
        if self._rise(rows) and self._clean >= CLEAN_GROUPS:
            try:
                return _sum(await self._attempt(rows, self._straight))
            except RowRefusedError:
                self._clean = 0
        written = await self._attempt(rows, ())
        repeats = any(written[table].new < len(some) for table, some in rows.items() if table in self._straight)
        self._clean = 0 if repeats else self._clean + 1
        return _sum(written)

    def _rise(self, rows: Rows) -> bool:
        """Whether every number is above those that this session has written."""
        rising = [self._numbers.rise(name, map(pick, rows[name])) for name, pick in NUMBERED if name in rows]
        return all(rising)

    async def _attempt(self, rows: Rows, straight: Collection[str]) -> dict[str, Written]:
        try:
            return await self._transact(rows, straight)
        except _ROW_ERRORS as error:
            if reason := _row_at_fault(error):
                raise RowRefusedError(reason) from error
            raise

    async def _transact(self, rows: Rows, straight: Collection[str]) -> dict[str, Written]:
        """Write the rows; the result by table. In tables of `straight` all rows are new, or the write fails."""
        written: dict[str, Written] = {}
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, some in rows.items():
                statements = STATEMENTS[table]
                into = statements.straight if table in straight else None
                async with cursor.copy(into or statements.stage) as copy:
                    copy.set_types(statements.types)
                    for row in some:
                        await copy.write_row(row)
                written[table] = Written(len(some)) if into else await self._merge(cursor, statements, some)
        return written

    async def _merge(self, cursor: AsyncCursor, statements: Statements, rows: Sequence[Row]) -> Written:
        """From the staging table into its own, without what is already there."""
        # A column whose type somebody changed may not return our values as they were.
        comparable = statements.table.name in self._straight
        listed, found = _lists(statements.table, rows), set[tuple[str, int]]()
        for span in spans(map(itemgetter(statements.table.names.index("timestamp")), rows)):
            if statements.clashes and comparable:
                await cursor.execute(statements.clashes, listed | _times(span, around=NEAR), prepare=False)
                found.update(await cursor.fetchall())
            await cursor.execute(statements.known, listed | _times(span), prepare=False)
        return Written((await cursor.execute(statements.merge)).rowcount, found)


NUMBERED = [
    (name, itemgetter(some.table.names.index("symbol"), some.table.names.index(NUMBER)))
    for name, some in STATEMENTS.items()
    if some.clashes
]
"""Tables whose rows have a number, and a getter of symbol and number."""


def _sum(written: Mapping[str, Written]) -> Written:
    return Written(
        sum(some.new for some in written.values()), [one for some in written.values() for one in some.clashes]
    )


def _lists(table: Table, rows: Iterable[Row]) -> dict[str, Any]:
    """What the rows hold in the columns of LOOKUP."""
    return {name: list({row[at] for row in rows}) for at, name in enumerate(table.names) if name in LOOKUP}


def _times(span: Span, *, around: timedelta = timedelta()) -> dict[str, Any]:
    # As literals for this one execution (`prepare=False`): the planner excludes the chunks of other days.
    first, last = (Y2000 + timedelta(microseconds=time) for time in span)
    return {"first": first - around, "last": last + around}


async def _set_limits(connection: AsyncConnection, *, write_limit_s: float, lock_limit_s: float) -> None:
    limits_s = {
        "lock_timeout": lock_limit_s,
        "statement_timeout": write_limit_s,
        # The locks of a client that has vanished must not outlive the limit either.
        "idle_in_transaction_session_timeout": write_limit_s,
    }
    limits = {name: str(round(limit_s * MS)) for name, limit_s in limits_s.items()}
    for name, value in (limits | SETTINGS).items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    await connection.execute(DURABLE)


async def _prepare(connection: AsyncConnection) -> frozenset[str]:
    """Create the staging tables. Returns the tables that may be copied into straight."""
    straight = set()
    for name, statements in STATEMENTS.items():
        probe = await connection.execute(statements.probe)
        if statements.straight and _has_our_types(probe, statements.table):
            straight.add(name)
        await connection.execute(statements.create)
    return frozenset(straight)


def _has_our_types(probe: AsyncCursor, table: Table) -> bool:
    """Whether each column still has our type: with another one, binary rows would fail or be misread."""
    found = [column.type_code for column in probe.description or ()]
    return found == [adapters.types[column.type].oid for column in table.columns]


def _row_at_fault(error: psycopg.Error | ValueError | OverflowError) -> str | None:
    """Why a row can never be stored; None if no row is at fault."""
    if not isinstance(error, psycopg.Error):
        return str(error)
    if error.sqlstate is None:
        return str(error) if isinstance(error, psycopg.DataError) else None
    return (error.diag.message_primary or str(error)) if error.sqlstate[:2] in _ROW_STATES else None
