"""The audit's hop for the timescale role's database."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import psycopg

from mdstream.audit.hops.logs import Add
from mdstream.audit.trades import MINUTE_NS, AuditTrade, Scope
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.db import connection as db
from mdstream.db import schema

MINUTE_S = MINUTE_NS // 1_000_000_000
ROWS_AT_ONCE = 20_000
_NO_ID = schema.trade_id("", 0)[0]
"""The first character of `trade_id` for a trade without a venue's id."""


class TimescaleHop:
    """market_data_ticks. Rows of the older service are left out: they have no event of ours."""

    name: ClassVar = f"PostgreSQL {schema.TICKS.name}"
    may_repeat: ClassVar = False
    is_end: ClassVar = True

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self._url, self._scope = db.url_of(settings), scope
        self.unread: Counter[str] = Counter()

    async def check(self) -> None:
        """Raise DatabaseError if it cannot be read; runs before the other hops are read."""
        async with await db.connect(self._url) as connection:
            await db.check(connection, write=False)

    async def read(self, add: Add) -> None:
        self.unread.clear()
        query, values = self._query()
        try:
            with Progress(f"audit {self.name}", "rows") as progress:
                async for count, row in self._rows(query, values):
                    self._take(row, add)
                    progress.show(count)
        except psycopg.Error as error:
            raise db.explain(error, db.place(self._url)) from error

    async def _rows(self, query: str, values: dict[str, Any]) -> AsyncIterator[tuple[int, tuple[Any, ...]]]:
        """Rows of one snapshot, in pieces: the writer goes on meanwhile, and memory is bounded."""
        count = 0
        async with (
            await db.connect(self._url) as connection,
            connection.transaction(),
            connection.cursor(name="audit") as cursor,
        ):
            cursor.itersize = ROWS_AT_ONCE
            await cursor.execute(query, values)
            async for row in cursor:
                count += 1
                yield count, row

    def _take(self, row: tuple[Any, ...], add: Add) -> None:
        source, symbol, trade_id, price, size, side, exchange_ns, recv_ns = row
        if recv_ns is None:
            self.unread["rows of the older service"] += 1
            return
        given = "" if trade_id.startswith(_NO_ID) else trade_id
        time_ns = recv_ns if exchange_ns is None else exchange_ns
        add(AuditTrade(source, symbol, given, price, size, side, time_ns, received_ns=recv_ns))

    def _query(self) -> tuple[str, dict[str, Any]]:
        scope = self._scope
        columns = "source, symbol, trade_id, price, size, side, ts_exchange_ns, ts_recv_ns"
        query = f"SELECT {columns} FROM {schema.TICKS.name} WHERE timestamp >= to_timestamp(%(begin)s)"  # noqa: S608  our own names
        query += " AND extra->>'correction' IS NULL"
        if scope.end_minute != Scope.end_minute:
            query += " AND timestamp < to_timestamp(%(end)s)"
        if scope.symbols:
            query += " AND symbol = ANY(%(symbols)s)"
        values = {
            "begin": scope.first_minute * MINUTE_S,
            "end": scope.end_minute * MINUTE_S,
            "symbols": sorted(scope.symbols),
        }
        return query, values
