"""One venue's repairs, taking turns page by page, so that a long one does not delay a short one.

    add ─> queue ─ the one that is due ─> budget ─> GET ─> publish ─┬─> more to ask for: back into the queue
             ^                                                      └─> done
             └── RetryableError: wait as long as the venue asks, or longer each time; then the next in turn

An unreachable venue delays only its own repairs, for as long as it takes.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import random
import time
from collections.abc import Callable, Collection
from itertools import count as counting

from mdstream.net.backoff import delays_s
from mdstream.repair.budget import Budget
from mdstream.repair.counters import ABSENT, TROUBLE, Counters, outcome
from mdstream.repair.rawlog import RawLog
from mdstream.repair.repair import Repair
from mdstream.repairs import RepairRequest
from mdstream.rest.client import Client
from mdstream.venues.history import History
from mdstream.venues.past import Page
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.spans import Span

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
HIGH_LOAD, LOAD_PAUSE_S = 0.8, 10.0
"""If the venue reports this much of its limit as used, by other clients too, nothing is requested for this long."""


class RepairJob:
    """An open request. `waiting_since_s`: when it was written to md.gaps, in seconds since 1970."""

    __slots__ = ("done", "dropped", "repair", "started_s", "waiting_since_s")

    def __init__(self, repair: Repair, *, waiting_since_s: float, done: Callable[[], None]) -> None:
        self.repair, self.waiting_since_s, self.done = repair, waiting_since_s, done
        self.started_s = time.monotonic()
        self.dropped = False


class Desk:
    """The repairs of one venue, while `run` runs. `problem`: why the venue currently returns nothing."""

    def __init__(self, history: History, client: Client, raw_log: RawLog, *, patience_s: float) -> None:
        self.history = history
        self.counters = Counters()
        self.problem: str | None = None
        self._client, self._raw_log, self._patience_s = client, raw_log, patience_s
        self._budget = Budget(history.limits)
        self._queue: list[tuple[float, int, RepairJob]] = []  # by due time
        self._numbers = counting()
        self._open: set[RepairJob] = set()
        self._more = asyncio.Event()
        self._delays = self._new_delays()
        self._logged: tuple[str, float] | None = None  # the problem last logged, and when

    def _new_delays(self) -> Callable[[], float]:
        return delays_s(random.Random()).__next__

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
        answer = await self._ask(page)
        now_ns = time.time_ns()
        if isinstance(answer, RetryableError):
            found: bytes | PermanentError | RetryableError | None = answer
        else:
            found = job.repair.take(page, answer, now_s=now_ns / 1e9)
        if isinstance(found, RetryableError):
            await self._wait_out(found)
            self._put(job, 0.0)
            return
        self._worked()
        if isinstance(found, bytes):
            await self._raw_log.frame(job.repair.request, found, recv_ns=now_ns)
        await self._continue(job, is_gone=isinstance(found, PermanentError))

    async def _ask(self, page: Page) -> Answer | RetryableError:
        """The answer to a page, asked for when the budget allows it."""
        await asyncio.sleep(self._budget.wait_s(page.cost, time.monotonic()))
        self._budget.spend(page.cost, time.monotonic())
        self.counters.pages += 1
        answer = await self._client.get(page.target)
        if isinstance(answer, Answer):
            self._respect_load(self.history.load(answer.headers))
        return answer

    async def get(self, page: Page) -> Answer | PermanentError:
        """The venue's answer to a page that is nobody's: it is not published. Asks until there is one."""
        while True:
            answer = await self._ask(page)
            if isinstance(answer, Answer):
                error = self.history.judge(answer, now_s=time.time())
                if not isinstance(error, RetryableError):
                    self._worked()
                    return answer if error is None else error
            else:
                error = answer
            await self._wait_out(error)

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

    def _respect_load(self, load: float | None) -> None:
        if load is not None and load >= HIGH_LOAD:
            log.warning("%s reports %.0f%% of its limit used: waiting", self.history.name, load * 100)
            self._budget.hold(time.monotonic() + LOAD_PAUSE_S)

    async def _wait_out(self, error: RetryableError) -> None:
        self.counters.retries[TROUBLE] += 1
        wait_s = max(self._delays(), error.wait_s or 0.0)
        self.problem = " ".join(error.reason.split())
        self._log_problem(wait_s)
        await asyncio.sleep(wait_s)

    def _log_problem(self, wait_s: float) -> None:
        """At most one line a minute for the same problem: a rate limit is hit again and again."""
        reason, now_s = self.problem or "", time.monotonic()
        if self._logged is not None and self._logged[0] == reason and now_s - self._logged[1] < LOG_INTERVAL_S:
            return
        self._logged = reason, now_s
        log.warning("%s: %s; again in %.1f s, %d requests open", self.history.name, reason, wait_s, self.open)

    def _worked(self) -> None:
        if self.problem is not None:
            self.problem = None
            self._delays = self._new_delays()


def _log_result(job: RepairJob) -> None:
    request, repair = job.repair.request, job.repair
    took_s = time.monotonic() - job.started_s
    what = f"{request.provider} {request.symbol} trades {Span(request.first_id, request.last_id)}"
    if not repair.missing:
        log.info("%s: all %d recovered in %.1f s", what, repair.found, took_s)
    else:
        reason = repair.lost()[0].reason
        log.warning("%s: %d recovered in %.1f s, %d lost: %s", what, repair.found, took_s, repair.missing, reason)
