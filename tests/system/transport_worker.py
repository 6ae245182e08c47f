"""A real worker whose agent writes down what it takes and what it acknowledges: `faust -A transport_worker worker`.

It is the core role's app with another agent: the same options, transport, driver and group. Every line goes to the file
TRANSPORT_LOG by a single write, so SIGKILL takes none of those that were written:

    take TOPIC PARTITION FIRST NEXT OFFSET,OFFSET,...   before anything else is done with a batch
    ack TOPIC PARTITION FIRST NEXT                      before the batch is acknowledged
    releasing PARTITION,PARTITION,...                   as a rebalance begins
    restoring PARTITION,PARTITION,...                   as it ends, with TRANSPORT_HOLD
    assigned PARTITION,PARTITION,...                    once these may be processed

Batches are acknowledged in the background after a random time, so out of order. Settings, all optional:

    TRANSPORT_WORK_S        seconds that the agent spends on a batch before it takes the next one
    TRANSPORT_ACK_S         longest time from taking a batch to acknowledging it
    TRANSPORT_COMMIT_S      commit interval
    TRANSPORT_NEVER_FIRST   the first batch of each partition is never acknowledged
    TRANSPORT_FETCH_S       longest wait for records
    TRANSPORT_HOLD          a file: the state of partitions is not restored before it is there
    TRANSPORT_HANGS         the worker's stop never ends
    TRANSPORT_TWICE         positioning is asked for again while it is under way, as by two rebalances in a row
    TRANSPORT_CLAIMED       another worker's claim is met while partitions are given up, which then takes a second more
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

from mdstream.app import ROLES, App, build
from mdstream.config import Settings
from mdstream.records import Partition
from mdstream.transport import thread
from mdstream.transport.batch import Batch

LOG = os.open(os.environ["TRANSPORT_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
WORK_S = float(os.environ.get("TRANSPORT_WORK_S", "0"))
ACK_S = float(os.environ.get("TRANSPORT_ACK_S", "0.5"))
COMMIT_S = float(os.environ.get("TRANSPORT_COMMIT_S", "0.3"))
FETCH_S = float(os.environ.get("TRANSPORT_FETCH_S", str(thread.FETCH_TIMEOUT_S)))
NEVER_FIRST = "TRANSPORT_NEVER_FIRST" in os.environ
HOLD = os.environ.get("TRANSPORT_HOLD")
TWICE = "TRANSPORT_TWICE" in os.environ
CLAIMED = "TRANSPORT_CLAIMED" in os.environ
HANGS = "TRANSPORT_HANGS" in os.environ


def write(*words: object) -> None:
    os.write(LOG, (" ".join(map(str, words)) + "\n").encode())


def held() -> bool:
    return HOLD is not None and not Path(HOLD).exists()


class Work:
    """Acknowledgements that are still to come, and the partitions whose first batch was seen."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._pending: set[asyncio.Task[None]] = set()
        self._begun: set[Partition] = set()

    async def process(self, batch: Batch) -> None:
        records = batch.take()
        if not records:
            return
        offsets = ",".join(str(record.offset) for record in records)
        write("take", *batch.partition, batch.first, batch.next, offsets)
        first = batch.partition not in self._begun
        self._begun.add(batch.partition)
        if not (NEVER_FIRST and first):
            task = asyncio.create_task(self._acknowledge(batch))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        await asyncio.sleep(WORK_S)

    async def _acknowledge(self, batch: Batch) -> None:
        await asyncio.sleep(random.uniform(0, ACK_S))
        write("ack", *batch.partition, batch.first, batch.next)
        batch.acknowledge()

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        numbers = ",".join(str(partition.number) for partition in sorted(starts))
        if HOLD:
            write("restoring", numbers)
        while held():  # noqa: ASYNC110  another process makes the file
            await asyncio.sleep(0.05)
        write("assigned", numbers)
        if TWICE:
            cast(Any, self._app.tables).recovery.take_over()
        return starts

    async def release(self, partitions: Collection[Partition]) -> None:
        """Wait until everything that was taken is acknowledged, as the core role does with its checkpoint."""
        write("releasing", ",".join(str(partition.number) for partition in sorted(partitions)))
        await asyncio.gather(*self._pending)
        if CLAIMED:
            for partition in partitions:
                self._app.overtaken(partition)
            await asyncio.sleep(1)

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        if HANGS:
            write("stopping", "")
            await asyncio.Event().wait()


def attach(app: App, settings: Settings) -> None:
    """What mdstream.app.build calls in each module of a role."""
    work = Work(app)
    app.around(before=work.start, after=work.stop)
    raw = [topic.name for topic in app.topic_map.raw.values()]
    app.keep(raw, restore=work.restore, release=work.release)
    app.conf.broker_commit_interval = COMMIT_S

    @app.agent(app.batched(*raw), name="transport_worker")
    async def take(batches: Any) -> None:
        async for batch in batches:
            await work.process(batch)


thread.FETCH_TIMEOUT_S = FETCH_S
ROLES["core"] = (__name__,)
app = build()
