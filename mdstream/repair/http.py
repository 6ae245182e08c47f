"""The HTTP endpoint of `mdstream repair`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mdstream.http.endpoint import Endpoint
from mdstream.repair.desk import Desk
from mdstream.repair.metrics import RepairMetrics
from mdstream.repair.requests import Requests
from mdstream.watchdog.guard import Watchdog


class RepairEndpoint(Endpoint):
    """Answers from the current state of the desks and the consumer."""

    def __init__(self, desks: Sequence[Desk], requests: Requests, watchdog: Watchdog) -> None:
        super().__init__(lambda: watchdog.verdict, RepairMetrics(desks, requests))
        self._desks, self._requests = desks, requests

    def problems(self) -> list[str]:
        """The venues' problems."""
        return [f"{desk.history.name}: {desk.problem}" for desk in self._desks if desk.problem is not None]

    def details(self) -> dict[str, Any]:
        """Partitions, and the work of each venue."""
        now_s = time.time()
        venues = {desk.history.name: _describe(desk, now_s) for desk in self._desks}
        return {"partitions": self._requests.partitions, "venues": venues}


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
