"""The HTTP endpoints without Faust: a port, the pages of every process, JSON answers, metrics as text."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from mdstream.errors import SettingsError
from mdstream.http.listening import Runner
from mdstream.http.metrics import new_registry
from mdstream.watchdog.rule import Verdict


class Metrics(Collector, ABC):
    """One process's Prometheus metrics, read from plain counters at scrape time."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self._registry.register(self)

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""

    def text(self) -> bytes:
        """Prometheus text."""
        return generate_latest(self._registry)

    async def page(self, _request: web.Request) -> web.Response:
        """The same as an answer."""
        return web.Response(body=self.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def reply(value: dict[str, Any], *, ok: bool = True) -> web.Response:
    """A JSON answer: 200, or 503 if not `ok`."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=200 if ok else 503)


class Endpoint(ABC):
    """/health /live /ready /metrics of a process, from the watchdog's verdict and the process's own problems.

    Its own problems, such as a venue that cannot be reached, make it not ready, never dead: a restart would not help.
    """

    def __init__(self, verdict: Callable[[], Verdict], metrics: Metrics) -> None:
        self._verdict, self._metrics = verdict, metrics

    @abstractmethod
    def problems(self) -> list[str]:
        """Its own problems now, for people."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What /health shows besides status and problems."""

    def readiness(self) -> dict[str, Any]:
        """What /ready shows besides ready and problems."""
        return {}

    def application(self) -> web.Application:
        """The routes."""
        app = web.Application()
        app.router.add_get("/health", self._health)
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics.page)
        return app

    async def _live(self, _request: web.Request) -> web.Response:
        verdict = self._verdict()
        return reply({"live": verdict.live, "problems": verdict.problems}, ok=verdict.live)

    async def _ready(self, _request: web.Request) -> web.Response:
        problems = self._all_problems()
        return reply({"ready": not problems, "problems": problems, **self.readiness()}, ok=not problems)

    async def _health(self, _request: web.Request) -> web.Response:
        verdict, problems = self._verdict(), self._all_problems()
        status = "degraded" if verdict.status == "ok" and problems else verdict.status
        return reply({"status": status, "problems": problems, **self.details()}, ok=not problems)

    def _all_problems(self) -> list[str]:
        return [*self._verdict().problems, *self.problems()]


@asynccontextmanager
async def serve(application: web.Application, *, host: str, port: int) -> AsyncIterator[None]:
    """Listen while the block runs. Raises SettingsError if the port is taken or the address is not ours."""
    runner = Runner(application)
    await runner.setup()
    try:
        await _listen(runner, host, port)
        yield
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise SettingsError(f"port {port} of {host} is in use: choose another with --port or HTTP_PORT") from None
        raise SettingsError(f"cannot listen on port {port} of {host}: {error}") from None
