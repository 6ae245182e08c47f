"""The symbols that have bars, of the last year: read at most once a minute, whoever asks how often."""

from __future__ import annotations

import asyncio
import time

from mdstream.api.history import LOOK_BACK_US, MAX_ROWS, moment
from mdstream.api.store import Store
from mdstream.db.schema import OHLCV, OWN_BARS

KEEP_S = 60.0

SYMBOLS = f"""
WITH RECURSIVE found (symbol) AS (
    (SELECT symbol FROM {OHLCV.name} WHERE exchange = %(exchange)s AND timestamp >= %(from)s ORDER BY symbol LIMIT 1)
    UNION ALL
    SELECT (SELECT next.symbol FROM {OHLCV.name} next
            WHERE next.exchange = %(exchange)s AND next.symbol > found.symbol AND next.timestamp >= %(from)s
            ORDER BY next.symbol LIMIT 1)
    FROM found WHERE found.symbol IS NOT NULL
) SELECT symbol FROM found WHERE symbol IS NOT NULL LIMIT %(rows)s"""  # noqa: S608  every name is ours
"""All symbols, by a step along the index for each: a DISTINCT would read every bar."""


class SymbolList:
    """The list of one database."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading: asyncio.Task[None] | None = None
        self._symbols: list[str] = []
        self._read_s = float("-inf")

    async def read(self) -> list[str]:
        """The symbols, sorted, at most MAX_ROWS. Raises DatabaseError."""
        if time.monotonic() - self._read_s >= KEEP_S:
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read())
            await asyncio.shield(self._reading)  # for all who ask meanwhile, also if it fails
        return self._symbols

    async def _read(self) -> None:
        since = moment(time.time_ns() // 1000 - LOOK_BACK_US)
        found = await self._store.ask(SYMBOLS, {"exchange": OWN_BARS, "from": since, "rows": MAX_ROWS})
        self._symbols = sorted(row["symbol"] for row in found)
        self._read_s = time.monotonic()
