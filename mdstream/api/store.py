"""The database as the API reads it: few connections, which can only read, and no query that takes long."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.errors import QueryCanceled
from psycopg.rows import dict_row

from mdstream.db import connection as db
from mdstream.errors import DatabaseError, TooSlowError

CONNECTIONS = 4
QUERY_LIMIT_S = 5
WAIT_LIMIT_S = 5.0
ANSWER_LIMIT_S = 15.0
"""Connecting included. A server whose machine is gone ends nothing itself."""
PIECE = 250
"""So many rows are read at a time, which takes a millisecond: then others have their turn."""
SETTINGS = f"SET default_transaction_read_only = on; SET statement_timeout = '{QUERY_LIMIT_S}s'; SET timezone = 'UTC'"


class Store:
    """Connects when it is first asked, and again after a failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = db.place(url)
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._idle: list[AsyncConnection[Any]] = []

    async def ask(self, statement: str, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The rows of a query. Raises DatabaseError; TooSlowError, retriable if there was no free connection."""
        async with self._connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(statement.encode(), values)
            rows: list[Mapping[str, Any]] = []
            while some := await cursor.fetchmany(PIECE):
                rows += some
                await asyncio.sleep(0)
            return rows

    async def check(self) -> None:
        """Return if the tables can be read. Raises DatabaseError."""
        async with self._connection() as connection:
            await db.check(connection, write=False)

    async def close(self) -> None:
        """Close what is idle."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        """A connection of our own for the block; it is kept only if that ends well."""
        try:
            async with asyncio.timeout(WAIT_LIMIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise TooSlowError(self._place, "all connections are in use", retriable=True) from None
        connection: AsyncConnection[Any] | None = None
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                connection = await self._kept() or await self._opened()
                yield connection
            self._idle.append(connection)
            connection = None
        except QueryCanceled as error:
            raise TooSlowError(self._place, f"the query took more than {QUERY_LIMIT_S} s", retriable=False) from error
        except TimeoutError:
            raise DatabaseError(self._place, f"no answer within {ANSWER_LIMIT_S:.0f} s") from None
        except psycopg.Error as error:
            raise db.explain(error, self._place) from error
        finally:
            if connection is not None:
                await connection.close()
            self._free.release()

    async def _kept(self) -> AsyncConnection[Any] | None:
        """An idle connection, None if there is none. A restarted server has ended all of them, and each would fail."""
        while self._idle:
            connection = self._idle.pop()
            if not _has_news(connection):
                return connection
            await connection.close()
        return None

    async def _opened(self) -> AsyncConnection[Any]:
        connection = await db.connect(self._url)
        try:
            await connection.execute(SETTINGS)
        except BaseException:
            await connection.close()
            raise
        return connection


def _has_news(connection: AsyncConnection[Any]) -> bool:
    """Whether a server has said something unasked, as it does when it ends a connection, or has closed it."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
