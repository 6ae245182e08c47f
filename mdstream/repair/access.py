"""Requests to one venue within its limits, of which there may be several at once.

page ─> budget ─> GET ─┬─> Answer ─ the venue reports a high load: nothing more for a while
                       └─> RetryableError ─ trouble: nothing more for as long as the venue asks, or longer each time
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import Protocol

from mdstream.net.backoff import delays_s
from mdstream.repair.budget import Budget
from mdstream.repair.counters import TROUBLE, Counters
from mdstream.venues.past import Page, Past
from mdstream.venues.rest import Answer, PermanentError, RetryableError

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 60.0
HIGH_LOAD, LOAD_PAUSE_S = 0.8, 10.0
"""If the venue reports this much of its limit as used, by other clients too, nothing is requested for this long."""


class Getter(Protocol):
    """What asks a venue: over HTTP, or with a library of its own. Never raises for a network's errors."""

    async def get(self, target: str) -> Answer | RetryableError:
        """The answer to a page's target."""


class Access:
    """The way to a venue. `problem`: why it currently returns nothing."""

    def __init__(self, past: Past, getter: Getter, counters: Counters | None = None) -> None:
        self.past, self.counters = past, counters or Counters()
        self.problem: str | None = None
        self._getter = getter
        self._budget, self._turn = Budget(past.limits), asyncio.Lock()
        self._delays = delays_s(random.Random())
        self._troubled_s = float("-inf")
        self._logged: tuple[str, float] | None = None  # the problem last logged, and when

    async def get(self, page: Page) -> Answer | PermanentError:
        """The venue's answer to a page. Asks until there is one."""
        while True:
            asked_s, answer = await self.ask(page)
            verdict = answer if isinstance(answer, RetryableError) else self.past.judge(answer, now_s=time.time())
            if isinstance(verdict, RetryableError):
                self.trouble(verdict, asked_s)
                continue
            self.worked()
            if isinstance(verdict, PermanentError):
                return verdict
            if isinstance(answer, Answer):
                return answer

    async def ask(self, page: Page) -> tuple[float, Answer | RetryableError]:
        """The answer to a page, asked for once, when the budget allows it; and when that was."""
        async with self._turn:
            while (wait_s := self._budget.wait_s(page.cost, time.monotonic())) > 0:  # noqa: ASYNC110  nothing tells
                await asyncio.sleep(wait_s)
            asked_s = time.monotonic()
            self._budget.spend(page.cost, asked_s)
        self.counters.pages += 1
        answer = await self._getter.get(page.target)
        if isinstance(answer, Answer):
            self._respect_load(self.past.load(answer.headers))
        return asked_s, answer

    def trouble(self, error: RetryableError, asked_s: float) -> None:
        """Hold all requests after an error of the one from `asked_s`. Those of several in flight are one trouble."""
        self.counters.retries[TROUBLE] += 1
        now_s, is_new = time.monotonic(), asked_s > self._troubled_s
        wait_s = max(next(self._delays) if is_new else 0.0, error.wait_s or 0.0)
        self._budget.hold(now_s + wait_s)
        self._troubled_s = max(self._troubled_s, now_s) if is_new else self._troubled_s
        self.problem = " ".join(error.reason.split())
        self._log_problem(wait_s)

    def worked(self) -> None:
        """The venue gives answers again."""
        if self.problem is not None:
            self.problem = None
            self._delays = delays_s(random.Random())

    def _respect_load(self, load: float | None) -> None:
        if load is not None and load >= HIGH_LOAD:
            log.warning("%s reports %.0f%% of its limit used: waiting", self.past.name, load * 100)
            self._budget.hold(time.monotonic() + LOAD_PAUSE_S)

    def _log_problem(self, wait_s: float) -> None:
        """At most one line a minute for the same problem: a rate limit is hit again and again."""
        reason, now_s = self.problem or "", time.monotonic()
        if self._logged is not None and self._logged[0] == reason and now_s - self._logged[1] < LOG_INTERVAL_S:
            return
        self._logged = reason, now_s
        log.warning("%s: %s; again in %.1f s", self.past.name, reason, wait_s)
