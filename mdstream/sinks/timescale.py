"""The database: ticks, quotes, bars and feed events into the tables of mdstream/db, in TimescaleDB or plain PostgreSQL.

    group ─ rows ─> Session.write, one transaction ─> acknowledge
              ├ what the database refuses: the group is halved until the row is alone ─> md.dead
              └ what takes too long: smaller writes from now on, larger again once they are quick

Writing an event again changes nothing, so a crash between COMMIT and the acknowledgement does no harm. A write that
fails for any other reason than a row ends the connection, and the next attempt opens a new one: after a failover, a
restart or a network cut nothing is left of the old session.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import psycopg

from mdstream.config import Settings
from mdstream.db import connection as db
from mdstream.errors import DatabaseError, TooSlowError
from mdstream.events import Event
from mdstream.records import Partition, Record
from mdstream.sinks.base import Chunk, Refusal
from mdstream.sinks.numbers import Conflicts
from mdstream.sinks.rows import FORMS, Row
from mdstream.sinks.session import RowRefusedError, Session, Written

log = logging.getLogger(__name__)

LOCK_LIMIT_S = 5.0
"""How long a write waits for a lock before it counts as failed (and is tried again later)."""
GRACE_S = 5.0
"""Time for the server to report that a write's limit is over, before the connection counts as dead."""
MAX_AT_ONCE = 1 << 17
"""Events in one transaction while nothing is slow: more than a group holds."""
QUICK = 0.25
"""After a write that took less than this part of the limit, the next one may be twice as large."""

T = TypeVar("T")


class Entry(NamedTuple):
    """A record and the event that it holds."""

    partition: Partition
    record: Record
    event: Event


class TimescaleSink:
    """Writes through one connection, which lives as long as it works."""

    name = "timescale"

    def __init__(self, url: str, *, write_limit_s: float, lock_limit_s: float = LOCK_LIMIT_S) -> None:
        self._url = url
        self._place = db.place(url)
        self._write_limit_s, self._lock_limit_s = write_limit_s, lock_limit_s
        self._session: Session | None = None
        self._at_once = MAX_AT_ONCE
        self._conflicts = Conflicts(self.name)
        self.rows = self.repeats = self.connections = 0

    async def open(self) -> None:
        """Raises DatabaseError, not retriable if an operator has to fix the settings or the database."""
        await self._guarded(self._opened())

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        entries = [
            Entry(chunk.partition, record, event)
            for chunk in chunks
            for record, event in zip(chunk.records, chunk.events, strict=True)
        ]
        refused: list[Refusal] = []
        began_s = time.monotonic()
        while entries:
            part, entries = entries[: self._at_once], entries[self._at_once :]
            await self._in_time(part, refused)
            if entries and time.monotonic() - began_s > self._write_limit_s:
                # What is stored stays. Reported as a failure, so that the role counts as holding, not as stuck.
                reason = f"a group takes longer than {self._write_limit_s:g} s: what is stored stays, the rest follows"
                raise DatabaseError(self._place, reason, retriable=True)
        return refused

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def metrics(self) -> dict[str, float]:
        return {
            "rows_total": self.rows,
            "repeats_total": self.repeats,
            "connections_total": self.connections,
            "connected": float(self._session is not None),
            "seq_conflicts_total": self._conflicts.total,
        }

    async def _in_time(self, entries: Sequence[Entry], refused: list[Refusal]) -> None:
        """As `_store`, and adapts the size of the next write to the time taken. Raises TooSlowError."""
        began_s, rows = time.monotonic(), self.rows
        try:
            await self._store(entries, refused)
        except TooSlowError:
            self._at_once = max(1, len(entries) // 2)
            log.warning(
                "%d events at once are too many for %s: %d from now on", len(entries), self._place, self._at_once
            )
            raise
        # Rows that an earlier attempt has stored cost next to nothing, and prove nothing.
        is_new = 2 * (self.rows - rows) >= len(entries)
        if is_new and time.monotonic() - began_s < QUICK * self._write_limit_s:
            self._at_once = min(2 * self._at_once, MAX_AT_ONCE)

    async def _store(self, entries: Sequence[Entry], refused: list[Refusal]) -> None:
        """Store all but those that never can be; each part is its own transaction."""
        try:
            new, clashes = await self._guarded(self._write(entries))
        except RowRefusedError as error:
            if len(entries) == 1:
                partition, record, _ = entries[0]
                refused.append(Refusal(partition, record, f"the database refuses it: {error}"))
                return
            half = len(entries) // 2
            await self._store(entries[:half], refused)
            await self._store(entries[half:], refused)
        else:
            self.rows += new
            self.repeats += len(entries) - new
            self._conflicts.found(clashes)

    async def _write(self, entries: Sequence[Entry]) -> Written:
        rows = _by_table(entries)
        return await (await self._opened()).write(rows)

    async def _guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """The work's result, within the limit. The session survives a refused row, and nothing else."""
        limit_s = self._write_limit_s + GRACE_S
        try:
            async with asyncio.timeout(limit_s):
                return await work
        except RowRefusedError:
            raise
        except psycopg.Error as error:
            await self.close()
            raise db.explain(error, self._place) from error
        except TimeoutError as error:
            await self.close()
            raise TooSlowError(self._place, f"no answer for {limit_s:.0f} s", retriable=True) from error
        except BaseException:
            await self.close()
            raise

    async def _opened(self) -> Session:
        if self._session is None or self._session.closed:
            self._session = await Session.begin(
                self._url, write_limit_s=self._write_limit_s, lock_limit_s=self._lock_limit_s
            )
            self.connections += 1
        return self._session


def _by_table(entries: Iterable[Entry]) -> dict[str, list[Row]]:
    """Rows by the name of their table. Raises RowRefusedError if an event has none."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for _, record, event in entries:
        form = FORMS.get(type(event))
        if form is None:
            raise RowRefusedError(f"there is no table for a {type(event).__name__}")
        try:
            rows[form.table.name].append(form.row(event, record.value or b""))
        except ValueError as error:
            raise RowRefusedError(str(error)) from error
    return rows


def sink_of(settings: Settings) -> TimescaleSink:
    """The timescale role's sink. Raises SettingsError if MARKET_DATA_DATABASE_URL is not set or cannot be read."""
    return TimescaleSink(db.url_of(settings), write_limit_s=settings.timescale.write_s)
