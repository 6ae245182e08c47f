"""The HTTP endpoint of `mdstream repair`: /health /live /ready /metrics."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from mdstream.http.endpoint import reply
from mdstream.repair.desk import Desk
from mdstream.repair.metrics import RepairMetrics
from mdstream.repair.requests import Requests
from mdstream.watchdog.guard import Watchdog


class Endpoint:
    """Answers from the current state of the desks and the consumer."""

    def __init__(self, desks: Sequence[Desk], requests: Requests, watchdog: Watchdog) -> None:
        self._desks, self._requests, self._watchdog = desks, requests, watchdog
        self._metrics = RepairMetrics(desks, requests)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics.page)
        return app

    def _problems(self) -> list[str]:
        # An unreachable venue makes us not ready, never dead: a restart would not help.
        venues = [f"{desk.history.name}: {desk.problem}" for desk in self._desks if desk.problem is not None]
        return [*self._watchdog.verdict.problems, *venues]

    async def _live(self, _request: web.Request) -> web.Response:
        verdict = self._watchdog.verdict
        return reply({"live": verdict.live, "problems": verdict.problems}, ok=verdict.live)

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = self._problems()
        return reply({"ready": not problems, "problems": problems}, ok=not problems)

    async def _health(self, _request: web.Request) -> web.Response:
        verdict, problems, now_s = self._watchdog.verdict, self._problems(), time.time()
        status = verdict.status if verdict.status != "ok" or not problems else "degraded"
        venues = {desk.history.name: _describe(desk, now_s) for desk in self._desks}
        content = {"status": status, "problems": problems, "partitions": self._requests.partitions, "venues": venues}
        return reply(content, ok=not problems)


def _describe(desk: Desk, now_s: float) -> dict[str, Any]:
    counters = desk.counters
    return {
        "open": desk.open,
        "oldest_s": round(desk.oldest_s(now_s), 1),
        "problem": desk.problem,
        "requests": dict(counters.requests),
        "recovered": counters.recovered,
        "lost": counters.lost,
    }
