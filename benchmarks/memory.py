"""Peak memory of a core worker that processes a backlog of two million frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from processes import Processes, free_port

from benchmarks import frames
from benchmarks.counter import counting
from benchmarks.deployment import PARTITIONS, Broker, deployment
from benchmarks.measure import Rate, peak_rss_bytes, rate

BACKLOG = 2_000_000


@dataclass(frozen=True)
class Memory:
    """The worker's peak resident memory, including its start."""

    backlog: int
    peak_bytes: int
    rate: Rate


async def measure(broker: Broker, *, backlog: int, folder: Path) -> Memory:
    """Process `backlog` frames. Raises BenchmarkError if the worker ends or stalls."""
    async with deployment(broker, "memory") as place:
        await frames.fill(broker.bootstrap, place.raw, frames=backlog, partitions=PARTITIONS)
        async with counting(broker.bootstrap, place.trades, exact=broker.exact_ends) as written:
            with Processes(folder) as processes:
                worker = processes.worker("core", port=free_port(), env=place.env)
                found = await rate(
                    worker, written, frames=backlog, outputs=frames.unique(backlog), title="mdstream's backlog"
                )
                return Memory(backlog, peak_rss_bytes(worker.pid), found)
