"""Shared parts of the HTTP endpoints without Faust: a port, JSON answers, metrics as text."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
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


class Metrics(Collector, ABC):
    """One process's Prometheus metrics, read from plain counters at scrape time."""

    def __init__(self) -> None:
        self._registry = new_registry()
        self._registry.register(self)

    @abstractmethod
    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""

    async def page(self, _request: web.Request) -> web.Response:
        """Prometheus text."""
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def reply(value: dict[str, Any], *, ok: bool = True) -> web.Response:
    """A JSON answer: 200, or 503 if not `ok`."""
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=200 if ok else 503)


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
