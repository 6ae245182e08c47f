"""Brings records past an outage of Kafka: from the overflow to the spool, from there back into the backlog.

    Kafka takes what comes     new records ──> backlog ──> Kafka
    it does not for a second   the backlog is diverted: its records and new ones ──> overflow ──> spool
    it does again              spool ──> backlog ──> Kafka, a segment at a time; then the overflow, to which new records
                               are added until both are empty. It goes to the spool, too, only if it grows

So each partition's order is kept. Without a spool, or while it cannot be written, the overflow holds what it can.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable

from mdstream.errors import SpoolError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.overflow import Waiting
from mdstream.ingest.spool import Spool, Spooled

log = logging.getLogger(__name__)

STALL_S = 1.0
"""Kafka has taken nothing for so long: divert. What is in memory until then, a kill loses."""
WATCH_S, STEP_S = 0.1, 0.02
KEPT_FILL = 0.1
"""While Kafka takes records, the overflow stays in memory up to here: on the way by the disk, a fast feed would never
find both empty."""
WRITE_BYTES = 1 << 20
REFILL_BYTES = 4 << 20
RETRY_S = 1.0
REPORT_S = 10.0


class Spooler:
    """Watches `backlog` and works its diversion off. `spool` None: there is only the overflow.

    `address` gives the topic and partition of a queue, `queue_of` the queue of a spooled record.
    """

    def __init__(
        self,
        backlog: Backlog,
        spool: Spool | None,
        *,
        address: Callable[[int], tuple[str, int]],
        queue_of: Callable[[Spooled], int],
        stalled_s: Callable[[], float],
        sync_s: float,
    ) -> None:
        self.spool = spool
        self._run = f"{os.getpid()}.{time.time_ns()}"
        self.error: str | None = None
        """Why the spool cannot be written now."""
        self.records = 0
        """Written to the spool."""
        self._backlog, self._address, self._queue_of = backlog, address, queue_of
        self._stalled_s, self._sync_s = stalled_s, sync_s
        self._step_lock = asyncio.Lock()
        self._retry_at_s = self._synced_s = self._reported_s = 0.0
        self._reported = 0
        self.resumes = spool is not None and spool.bytes > 0
        """An earlier run has left records."""
        if spool is not None and self.resumes:
            log.info("the spool holds %.1f MiB of an earlier run: they are sent first", spool.bytes / (1 << 20))
            backlog.divert()

    @property
    def spool_bytes(self) -> int:
        """On disk."""
        return 0 if self.spool is None else self.spool.bytes

    @property
    def spool_limit_bytes(self) -> int:
        """0 without a spool."""
        return 0 if self.spool is None else self.spool.max_bytes

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            if self._backlog.diverted:
                async with self._step_lock:
                    await self._step()
                await asyncio.sleep(STEP_S)
            else:
                if self._stalled_s() > STALL_S:
                    log.warning("Kafka has taken nothing for %.1f s: %s", self._stalled_s(), self._destination())
                    self._backlog.divert()
                await asyncio.sleep(WATCH_S)

    async def drained(self) -> None:
        """Return when Kafka has everything."""
        while True:
            await self._backlog.empty.wait()
            if not self._backlog.diverted:
                return
            await asyncio.sleep(STEP_S)

    def outcome(self) -> str:
        """What becomes of the records that wait, if the process ends now."""
        if self.spool is None or self.error is not None or not self._backlog.diverted:
            return f"{self.waiting} records that waited for Kafka are lost"
        return f"what waited for Kafka is in the spool, except for {len(self._backlog.overflow)} records"

    @property
    def waiting(self) -> int:
        """Records in memory that Kafka has not acknowledged."""
        return self._backlog.records + len(self._backlog.overflow)

    async def park(self) -> None:
        """Put all that Kafka has not acknowledged into the spool, at the end of the process.

        Raises SpoolError if that is impossible.
        """
        if self.spool is None:
            raise SpoolError("the spool is switched off (MDSTREAM_SPOOL_MB=0)")
        async with self._step_lock:
            if not self._backlog.diverted:
                self._backlog.divert()
            while len(self._backlog.overflow):
                await self._write(self.spool)
            await asyncio.to_thread(self.spool.sync)

    def _destination(self) -> str:
        return "what comes is held in memory" if self.spool is None else "what comes goes to the spool"

    async def _step(self) -> None:
        if self.spool is not None and self._has_to_store() and time.monotonic() >= self._retry_at_s:
            try:
                await self._store(self.spool)
            except SpoolError as error:
                self._failed(error)
            else:
                self.error = None
        self._report_drops()
        if self._backlog.empty.is_set():
            await self._refill()

    def _has_to_store(self) -> bool:
        return self.error is not None or self._stalled_s() > STALL_S or self._backlog.overflow.fill >= KEPT_FILL

    async def _store(self, spool: Spool) -> None:
        while len(self._backlog.overflow):
            await self._write(spool)
        if self._sync_s >= 0 and time.monotonic() >= self._synced_s + self._sync_s:
            await asyncio.to_thread(spool.sync)
            self._synced_s = time.monotonic()

    async def _write(self, spool: Spool) -> None:
        overflow = self._backlog.overflow
        first = overflow.first(WRITE_BYTES)
        await asyncio.to_thread(spool.write, [self._spooled(waiting) for waiting in first])
        overflow.remove(first)
        self.records += len(first)

    def _spooled(self, waiting: Waiting) -> Spooled:
        key, value, timestamp_ms, headers = waiting.record
        copied_by = self._run if waiting.copy else ""
        return Spooled(*self._address(waiting.queue), key, value, timestamp_ms, headers, copied_by)

    async def _refill(self) -> None:
        """Kafka has all that the backlog held, so also what our copies are of: give it what came next."""
        backlog = self._backlog
        segment = await asyncio.to_thread(self.spool.read) if self.spool is not None else ()
        for spooled in segment:
            if spooled.copied_by != self._run:
                backlog.put(self._queue_of(spooled), spooled.record, len(spooled.value or b""))
        if segment:
            return
        first = backlog.overflow.first(REFILL_BYTES)
        for waiting in first:
            if not waiting.copy:
                backlog.put(waiting.queue, waiting.record, waiting.size_bytes)
        backlog.overflow.remove(first)
        if not len(backlog.overflow):
            backlog.diverted = False
            log.info("Kafka has everything that waited for it")

    def _failed(self, error: SpoolError) -> None:
        if self.error is None:
            log.error("%s; held in memory, again in %.0f s", error, RETRY_S)
        self.error = str(error)
        self._retry_at_s = time.monotonic() + RETRY_S

    def _report_drops(self) -> None:
        dropped = self._backlog.overflow.dropped
        total = dropped.total()
        if total > self._reported and time.monotonic() >= self._reported_s + REPORT_S:
            kinds = ", ".join(f"{count} {kind.decode()}" for kind, count in sorted(dropped.items()))
            log.error("records that were dropped for want of room so far: %s", kinds)
            self._reported, self._reported_s = total, time.monotonic()
