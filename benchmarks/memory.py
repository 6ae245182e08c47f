"""The most memory that a core worker holds while it works off a backlog of two million frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchmarks import frames
from benchmarks.counter import counting
from benchmarks.deployment import PARTITIONS, Broker, deployment
from benchmarks.measure import Rate, peak_rss_bytes, rate
from mdstream.testing import Processes, free_port

BACKLOG = 2_000_000


@dataclass(frozen=True)
class Memory:
    """The peak of resident memory over the whole life of the worker, its start included."""

    backlog: int
    peak_bytes: int
    rate: Rate


async def measure(broker: Broker, *, backlog: int, folder: Path) -> Memory:
    """Work off `backlog` frames. Raises BenchmarkError where the worker ends or stands still."""
    async with deployment(broker, "memory") as place:
        await frames.fill(broker.bootstrap, place.raw, frames=backlog, partitions=PARTITIONS)
        async with counting(broker.bootstrap, place.trades, exact=broker.exact_ends) as written:
            with Processes(folder) as processes:
                worker = processes.worker("core", port=free_port(), env=place.env)
                found = await rate(
                    worker, written, frames=backlog, outputs=frames.unique(backlog), title="mdstream's backlog"
                )
                return Memory(backlog, peak_rss_bytes(worker.pid), found)
