"""A real worker that goes wrong as WATCHDOG_FAULT says: `faust -A watchdog_worker worker`.

It is the core role's app with another agent, which takes batches of the raw topics and

    none     acknowledges each at once
    keep     never acknowledges any, and stays responsive
    freeze   blocks the event loop with the first one
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from mdstream.app import ROLES, App, build
from mdstream.config import Settings
from mdstream.records import Partition
from mdstream.transport.batch import Batch

FAULT = os.environ["WATCHDOG_FAULT"]


def work_on(batch: Batch) -> None:
    batch.take()
    if FAULT == "freeze":
        time.sleep(3600)
    if FAULT == "none":
        batch.acknowledge()


async def restore(starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
    return starts


async def release(partitions: Iterable[Partition]) -> None:
    """There is nothing to make safe."""


def attach(app: App, settings: Settings) -> None:
    """What mdstream.app.build calls in each module of a role."""
    raw = [topic.name for topic in app.topic_map.raw.values()]
    app.keep(raw, restore=restore, release=release)

    @app.agent(app.batched(*raw), name="watchdog_worker")
    async def take(batches: Any) -> None:
        async for batch in batches:
            work_on(batch)


ROLES["core"] = (__name__,)
app = build()
