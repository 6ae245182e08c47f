"""mdstream/http/endpoint.py: what a process says about itself, over a real socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from processes import free_port
from prometheus_client.core import GaugeMetricFamily, Metric

from mdstream.http.endpoint import Endpoint, Metrics, serve
from mdstream.watchdog.rule import Verdict

FINE = Verdict("ok", live=True, ready=True)
STUCK = Verdict("stuck", live=False, ready=False, problems=("nothing moves",))
DOWN = "okx: disconnected"


class Answers(Metrics):
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("answer", "to everything", 42)


class Process(Endpoint):
    """A process with one verdict and these problems."""

    def __init__(self, verdict: Verdict, *problems: str) -> None:
        super().__init__(lambda: verdict, Answers())
        self._problems = list(problems)

    def problems(self) -> list[str]:
        return self._problems

    def details(self) -> dict[str, Any]:
        return {"venues": 3}


@asynccontextmanager
async def served(process: Process) -> AsyncIterator[Callable[[str], Awaitable[aiohttp.ClientResponse]]]:
    """A function that gets a page, its content read."""
    port = free_port()
    async with serve(process.application(), host="127.0.0.1", port=port), aiohttp.ClientSession() as client:

        async def get(page: str) -> aiohttp.ClientResponse:
            answer = await client.get(f"http://127.0.0.1:{port}/{page}")
            await answer.read()
            return answer

        yield get


@pytest.mark.parametrize(
    ("process", "live", "ready", "health"),
    [
        (Process(FINE), (200, True, []), (200, True, []), (200, "ok", [])),
        (Process(FINE, DOWN), (200, True, []), (503, False, [DOWN]), (503, "degraded", [DOWN])),
        (
            Process(STUCK, DOWN),
            (503, False, ["nothing moves"]),
            (503, False, ["nothing moves", DOWN]),
            (503, "stuck", ["nothing moves", DOWN]),
        ),
    ],
)
async def test_only_the_watchdog_declares_a_process_dead(
    process: Process, live: tuple[int, bool, Any], ready: tuple[int, bool, Any], health: tuple[int, str, Any]
) -> None:
    """Its own problems, such as a venue's, make it not ready: a restart would not help."""
    async with served(process) as get:
        pages = {page: await get(page) for page in ("live", "ready", "health")}
    assert {name: (page.status, await page.json()) for name, page in pages.items()} == {
        "live": (live[0], {"live": live[1], "problems": live[2]}),
        "ready": (ready[0], {"ready": ready[1], "problems": ready[2]}),
        "health": (health[0], {"status": health[1], "problems": health[2], "venues": 3}),
    }


async def test_metrics_are_prometheus_text() -> None:
    """Read at scrape time, beside those of the process itself."""
    async with served(Process(FINE)) as get:
        text = await (await get("metrics")).text()
    assert "\nanswer 42.0\n" in text
    assert "\npython_info{" in text
