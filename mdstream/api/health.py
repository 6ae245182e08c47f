"""/health, /live, /ready and /metrics of `mdstream api`: ready while what it needs answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from mdstream.api.routes import Webhook
from mdstream.api.streams import Live
from mdstream.errors import MdstreamError
from mdstream.http.endpoint import Metrics

CHECK_LIMIT_S, CHECK_EVERY_S = 5.0, 2.0

Check = Callable[[], Awaitable[object]]
"""Returns if a part answers. Raises MdstreamError."""


class Health:
    """The state of each part by its name; parts are asked at most every CHECK_EVERY_S, whoever asks us how often."""

    def __init__(self, checks: Mapping[str, Check]) -> None:
        self._checks = checks
        self._asking = asyncio.Lock()
        self._asked_s = float("-inf")
        self._problems: dict[str, str | None] = {}

    async def problems(self) -> dict[str, str | None]:
        """By part: what is wrong, None if nothing is."""
        async with self._asking:
            if time.monotonic() - self._asked_s >= CHECK_EVERY_S:
                found = await asyncio.gather(*map(_problem, self._checks.values()))
                self._problems = dict(zip(self._checks, found, strict=True))
                self._asked_s = time.monotonic()
            return self._problems


async def _problem(check: Check) -> str | None:
    asking = asyncio.ensure_future(check())
    await asyncio.wait({asking}, timeout=CHECK_LIMIT_S)
    if not asking.done():
        asking.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        asking.cancel()  # and do not wait: psycopg gives up a server that stands still only after ten seconds more
        return f"no answer within {CHECK_LIMIT_S:.0f} s"
    try:
        asking.result()
    except MdstreamError as error:
        return str(error)
    return None


class ApiMetrics(Metrics):
    """The metrics of one process."""

    def __init__(self, webhook: Webhook | None, live: Live, slow: Mapping[str, int]) -> None:
        self._webhook, self._live, self._slow = webhook, live, slow
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        if self._webhook is not None:
            yield from _alerts(self._webhook)
        yield GaugeMetricFamily("mdstream_api_streams", "open live streams", value=self._live.open)
        yield CounterMetricFamily(
            "mdstream_api_slow_clients", "disconnected: they read nothing", value=self._slow.get("clients", 0)
        )


def _alerts(webhook: Webhook) -> Iterator[Metric]:
    answers = CounterMetricFamily("mdstream_api_webhook_requests", "answered requests", labels=["status"])
    for status, count in sorted(webhook.answers.items()):
        answers.add_metric([str(status)], count)
    yield answers
    yield GaugeMetricFamily("mdstream_api_held_alerts", "not acknowledged by Kafka", value=webhook.outbox.held)
    yield GaugeMetricFamily("mdstream_api_remembered_alerts", "would be known again", value=len(webhook.remembered))


def router_of(health: Health, metrics: ApiMetrics, live: Live, off: Mapping[str, str]) -> APIRouter:
    """The paths of the process itself. `off`: what it does not do, and why; that is no problem."""
    router = APIRouter(tags=["process"])

    @router.head("/live", include_in_schema=False)
    @router.get("/live", summary="200 while it answers")
    async def alive() -> JSONResponse:
        return JSONResponse({"live": True})

    @router.head("/health", include_in_schema=False)
    @router.head("/ready", include_in_schema=False)
    @router.get("/health", summary="What works; 503 if a part does not")
    @router.get("/ready", summary="200 while all it needs answers")
    async def ready() -> JSONResponse:
        parts = await health.problems()
        problems = [f"{name}: {problem}" for name, problem in parts.items() if problem]
        shown = {name: problem or "ok" for name, problem in parts.items()}
        status = {"status": "degraded" if problems else "ok", "ready": not problems}
        return JSONResponse(
            {**status, "problems": problems, **shown, **off, "streams": live.open}, 503 if problems else 200
        )

    @router.get("/metrics", summary="For Prometheus")
    async def page() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
