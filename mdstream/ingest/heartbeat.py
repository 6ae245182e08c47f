"""A heartbeat per provider and partition of its raw topics each second; it also computes the rates of that second."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mdstream.ingest.feed import Feed

INTERVAL_S = 1.0


async def run_heartbeats(feeds: Sequence[Feed]) -> None:
    """Queue heartbeats until cancelled. A missed heartbeat is not sent later: each has its time."""
    now_s = asyncio.get_running_loop().time
    due_s = last_s = now_s()
    totals = [0] * len(feeds)
    while True:
        elapsed_s, last_s = now_s() - last_s, now_s()
        for i, feed in enumerate(feeds):
            feed.add_heartbeat()
            counters = feed.intake.counters
            counters.frames_per_second = (counters.total - totals[i]) / elapsed_s if elapsed_s > 0 else 0.0
            totals[i] = counters.total
        due_s = max(due_s + INTERVAL_S, now_s())
        await asyncio.sleep(due_s - now_s())
