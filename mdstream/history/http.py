"""The HTTP endpoint of `mdstream repair`: /health /live /ready /metrics."""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from mdstream.errors import SettingsError
from mdstream.history.desk import Desk
from mdstream.history.metrics import RepairMetrics
from mdstream.history.requests import Requests
from mdstream.watchdog.guard import Watchdog


class Endpoint:
    """Answers from what the desks and the consumer know at the moment."""

    def __init__(self, desks: Sequence[Desk], requests: Requests, watchdog: Watchdog) -> None:
        self._desks, self._requests, self._watchdog = desks, requests, watchdog
        self._metrics = RepairMetrics(desks, requests)

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._render)
        return app

    def _problems(self) -> list[str]:
        # A venue that is away makes us not ready, never dead: a restart would find it away too.
        venues = [f"{desk.history.name}: {desk.problem}" for desk in self._desks if desk.problem is not None]
        return [*self._watchdog.verdict.problems, *venues]

    async def _live(self, _request: web.Request) -> web.Response:
        verdict = self._watchdog.verdict
        return _json({"live": verdict.live, "problems": verdict.problems}, ok=verdict.live)

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = self._problems()
        return _json({"ready": not problems, "problems": problems}, ok=not problems)

    async def _health(self, _request: web.Request) -> web.Response:
        verdict, problems, now_s = self._watchdog.verdict, self._problems(), time.time()
        status = verdict.status if verdict.status != "ok" or not problems else "degraded"
        venues = {desk.history.name: _describe(desk, now_s) for desk in self._desks}
        content = {"status": status, "problems": problems, "partitions": self._requests.partitions, "venues": venues}
        return _json(content, ok=not problems)

    async def _render(self, _request: web.Request) -> web.Response:
        return web.Response(body=self._metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})


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


def _json(value: dict[str, Any], *, ok: bool = True) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=200 if ok else 503)


@asynccontextmanager
async def serve(endpoint: Endpoint, *, host: str, port: int) -> AsyncIterator[None]:
    """Listen while the block runs. Raises SettingsError where the port is taken or the address is not ours."""
    runner = web.AppRunner(endpoint.application(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        await runner.cleanup()
        what = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error}"
        raise SettingsError(f"port {port} of {host} {what}: choose another with --port or HTTP_PORT") from None
    try:
        yield
    finally:
        await runner.cleanup()
