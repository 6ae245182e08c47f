"""One venue's repairs, taking turns page by page, so that a long one does not delay a short one.

    add ─> queue ─ the one that is due ─> Access ─> publish ─┬─> more to ask for: back into the queue
             ^                               │               └─> done
             └────────── RetryableError <────┘

An unreachable venue delays only its own repairs, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Collection
from itertools import count as counting

from mdstream.repair.access import Access
from mdstream.repair.counters import ABSENT, outcome
from mdstream.repair.rawlog import RawLog
from mdstream.repair.repair import Repair
from mdstream.repairs import RepairRequest
from mdstream.venues.feed import TRADE
from mdstream.venues.history import History
from mdstream.venues.past import Page
from mdstream.venues.rest import PermanentError, RetryableError
from mdstream.venues.spans import Span

log = logging.getLogger(__name__)


class RepairJob:
    """An open request. `waiting_since_s`: when it was written to md.gaps, in seconds since 1970."""

    __slots__ = ("done", "dropped", "repair", "started_s", "waiting_since_s")

    def __init__(self, repair: Repair, *, waiting_since_s: float, done: Callable[[], None]) -> None:
        self.repair, self.waiting_since_s, self.done = repair, waiting_since_s, done
        self.started_s = time.monotonic()
        self.dropped = False


class Desk:
    """The repairs of one venue, while `run` runs; several of it have several requests in flight."""

    def __init__(self, history: History, access: Access, raw_log: RawLog, *, patience_s: float) -> None:
        self.history, self.counters = history, access.counters
        self.access, self._raw_log, self._patience_s = access, raw_log, patience_s
        self._queue: list[tuple[float, int, RepairJob]] = []  # by due time
        self._numbers = counting()
        self._open: set[RepairJob] = set()
        self._more = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """Why the venue currently returns nothing."""
        return self.access.problem

    @property
    def open(self) -> int:
        """Number of open requests."""
        return len(self._open)

    def oldest_s(self, now_s: float) -> float:
        """Age of the oldest open request, in seconds since it was written; 0 without any."""
        return max((now_s - job.waiting_since_s for job in self._open), default=0.0)

    def add(self, request: RepairRequest, *, waiting_since_s: float, done: Callable[[], None]) -> RepairJob:
        """Take on a request; `done` is called when the broker has all its results."""
        job = RepairJob(
            Repair(request, self.history, patience_s=self._patience_s), waiting_since_s=waiting_since_s, done=done
        )
        self._open.add(job)
        self._put(job, 0.0)
        return job

    def drop(self, jobs: Collection[RepairJob]) -> None:
        """Leave requests to another process. A page in flight may still be published."""
        for job in jobs:
            job.dropped = True
        self._open.difference_update(jobs)
        self._queue = [entry for entry in self._queue if not entry[2].dropped]
        heapq.heapify(self._queue)

    def _put(self, job: RepairJob, delay_s: float) -> None:
        if not job.dropped:
            heapq.heappush(self._queue, (time.monotonic() + delay_s, next(self._numbers), job))
            self._more.set()

    async def run(self) -> None:
        """Repair until cancelled. Raises only programming errors."""
        while True:
            job = await self._next()
            page = job.repair.page()
            if isinstance(page, PermanentError):
                await self._finish(job)
            else:
                await self._turn(job, page)

    async def _next(self) -> RepairJob:
        """The job whose turn it is, once it is due."""
        while True:
            self._more.clear()
            wait_s = self._queue[0][0] - time.monotonic() if self._queue else None
            if wait_s is not None and wait_s <= 0:
                return heapq.heappop(self._queue)[2]
            try:
                async with asyncio.timeout(wait_s):
                    await self._more.wait()
            except TimeoutError:
                continue

    async def _turn(self, job: RepairJob, page: Page) -> None:
        asked_s, answer = await self.access.ask(page)
        now_ns = time.time_ns()
        if isinstance(answer, RetryableError):
            found: bytes | PermanentError | RetryableError | None = answer
        else:
            found = job.repair.take(page, answer, now_s=now_ns / 1e9)
        if isinstance(found, RetryableError):
            self.access.trouble(found, asked_s)
            self._put(job, 0.0)
            return
        self.access.worked()
        if isinstance(found, bytes):
            r = job.repair.request
            await self._raw_log.frame(r.provider, r.symbol, TRADE, found, recv_ns=now_ns, contract_size=r.contract_size)
        await self._continue(job, is_gone=isinstance(found, PermanentError))

    async def _continue(self, job: RepairJob, *, is_gone: bool) -> None:
        delay_s = None if is_gone else job.repair.next_page_in_s()
        if delay_s is None:
            await self._finish(job)
            return
        if delay_s:
            self.counters.retries[ABSENT] += 1
        self._put(job, delay_s)

    async def _finish(self, job: RepairJob) -> None:
        repair, losses = job.repair, job.repair.lost()
        if losses and not job.dropped:
            await self._raw_log.lost(losses, now_ns=time.time_ns())
        if job.dropped:
            return
        self._open.discard(job)
        self.counters.requests[outcome(found=repair.found, missing=repair.missing)] += 1
        self.counters.recovered += repair.found
        self.counters.lost += repair.missing
        _log_result(job)
        job.done()


def _log_result(job: RepairJob) -> None:
    request, repair = job.repair.request, job.repair
    took_s = time.monotonic() - job.started_s
    what = f"{request.provider} {request.symbol} trades {Span(request.first_id, request.last_id)}"
    if not repair.missing:
        log.info("%s: all %d recovered in %.1f s", what, repair.found, took_s)
    else:
        reason = repair.lost()[0].reason
        log.warning("%s: %d recovered in %.1f s, %d lost: %s", what, repair.found, took_s, repair.missing, reason)
