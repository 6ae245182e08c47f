"""One connection to the database that writes groups of rows, each in a transaction.

    staged ──(CLEAN_GROUPS groups in a row without a repeat)──> straight
       ^                                                           │
       └──────────────────(one fails at a row)─────────────────────┘

A session begins staged: after a crash or a rebalance the first groups bring repeats, which cost nothing there. Straight
takes half the time, and a single repeat fails the whole: then the group is staged after all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import psycopg
from psycopg import AsyncConnection, AsyncCursor, adapters

from mdstream.db import connection as db
from mdstream.db.schema import Table
from mdstream.sinks.rows import Row
from mdstream.sinks.staging import STATEMENTS

CLEAN_GROUPS = 2
MS = 1000
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""An acknowledged row must outlive a crash of the server, whatever the database's default."""

# SQLSTATE classes that one row can be at fault for: data exceptions, integrity constraints, program limits (a text that
# is too long for an index).
_ROW_STATES = ("22", "23", "54")
# Without a SQLSTATE: what psycopg cannot write as the column's type, a lone surrogate or a number beyond a bigint.
_ROW_ERRORS = (psycopg.Error, ValueError, OverflowError)

Rows = Mapping[str, Sequence[Row]]
"""By the name of their table."""


class RowRefusedError(Exception):
    """A row among those of a write can never be stored; the text is the reason."""


class Session:
    """A connection that is prepared to write. After any error but RowRefusedError it is of no more use."""

    def __init__(self, connection: AsyncConnection, straight: Collection[str]) -> None:
        self._connection = connection
        self._straight = straight  # tables that may be copied into
        self._clean = 0  # groups in a row without a repeat

    @classmethod
    async def begin(cls, url: str, *, write_limit_s: float, lock_limit_s: float) -> Session:
        """Raises DatabaseError, SettingsError or psycopg.Error, not retriable where somebody has to mend something."""
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

    async def write(self, rows: Rows) -> int:
        """Store the rows; how many were news. Raises RowRefusedError, and then nothing is stored; psycopg.Error."""
        if self._clean >= CLEAN_GROUPS:
            try:
                return sum((await self._attempt(rows, self._straight)).values())
            except RowRefusedError:
                self._clean = 0
        new = await self._attempt(rows, ())
        repeats = any(new[table] < len(some) for table, some in rows.items() if table in self._straight)
        self._clean = 0 if repeats else self._clean + 1
        return sum(new.values())

    async def _attempt(self, rows: Rows, straight: Collection[str]) -> dict[str, int]:
        try:
            return await self._transact(rows, straight)
        except _ROW_ERRORS as error:
            if reason := _row_at_fault(error):
                raise RowRefusedError(reason) from error
            raise

    async def _transact(self, rows: Rows, straight: Collection[str]) -> dict[str, int]:
        """How many rows of each table were news. Into those in `straight` all are, or it fails."""
        new: dict[str, int] = {}
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            for table, some in rows.items():
                statements = STATEMENTS[table]
                into = statements.straight if table in straight else None
                async with cursor.copy(into or statements.stage) as copy:
                    copy.set_types(statements.types)
                    for row in some:
                        await copy.write_row(row)
                new[table] = len(some) if into else (await cursor.execute(statements.merge)).rowcount
        return new


async def _set_limits(connection: AsyncConnection, *, write_limit_s: float, lock_limit_s: float) -> None:
    limits_s = {
        "lock_timeout": lock_limit_s,
        "statement_timeout": write_limit_s,
        # The locks of a client that is gone without a word must not outlive the limit either.
        "idle_in_transaction_session_timeout": write_limit_s,
    }
    for name, limit_s in limits_s.items():
        await connection.execute("SELECT set_config(%s, %s, false)", (name, str(round(limit_s * MS))))
    await connection.execute(DURABLE)


async def _prepare(connection: AsyncConnection) -> frozenset[str]:
    """Make the staging tables; the tables that may be copied into straight."""
    straight = set()
    for name, statements in STATEMENTS.items():
        probe = await connection.execute(statements.probe)
        if statements.straight and _has_our_types(probe, statements.table):
            straight.add(name)
        await connection.execute(statements.create)
    return frozenset(straight)


def _has_our_types(probe: AsyncCursor, table: Table) -> bool:
    """Whether each column is of our type still: binary rows of another one would fail, or be taken for other values."""
    found = [column.type_code for column in probe.description or ()]
    return found == [adapters.types[column.type].oid for column in table.columns]


def _row_at_fault(error: psycopg.Error | ValueError | OverflowError) -> str | None:
    """Why a row can never be stored; None where no row is at fault."""
    if not isinstance(error, psycopg.Error):
        return str(error)
    if error.sqlstate is None:
        return str(error) if isinstance(error, psycopg.DataError) else None
    return (error.diag.message_primary or str(error)) if error.sqlstate[:2] in _ROW_STATES else None
