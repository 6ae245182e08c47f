"""Websocket to raw topic, one `mdstream ingest`, compared with a bare receive loop on the same frames: the limit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click
from processes import PROJECT, Processes, free_port

from benchmarks import frames
from benchmarks.counter import counting
from benchmarks.deployment import Broker, Deployment, deployment
from benchmarks.measure import BenchmarkError, Rate, last_words, rate, rate_reported_by
from mdstream.records import decode_raw
from mdstream.venues.feed import TRADE

BARE_LIMIT_S = 120.0


@dataclass(frozen=True)
class Ingest:
    """Rates of one process from a websocket: the ingestor, and a loop that discards everything."""

    ingestor: Rate
    bare: Rate


async def measure(broker: Broker, *, count: int, folder: Path) -> Ingest:
    """Send `count` frames to each of the two.

    Raises BenchmarkError if a process ends or stalls, or a frame does not arrive.
    """
    bare = _bare(count, folder)
    click.echo(f"bare receive loop ({count:,} frames): {bare.per_second:,.0f} frames/s", err=True)
    async with deployment(broker, "ingest") as place:
        ingestor = await _ingestor(place, count, exact=broker.exact_ends, folder=folder)
        await _verify(place, count)
    click.echo(f"mdstream ingest ({count:,} frames): {ingestor.per_second:,.0f} frames/s", err=True)
    return Ingest(ingestor, bare)


def _venue(processes: Processes, count: int) -> str:
    """Start the server. Returns its URL."""
    port = free_port()
    args = [sys.executable, "-m", "benchmarks.blast", port, count]
    processes.spawn(args, name="venue", env={"PYTHONPATH": str(PROJECT)}).wait_for("ready")
    return f"ws://127.0.0.1:{port}/stream"


def _bare(count: int, folder: Path) -> Rate:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        url = _venue(processes, count)
        loop = processes.spawn([sys.executable, "-m", "benchmarks.bare", url, count], name="bare")
        return rate_reported_by(loop, "the bare receive loop", limit_s=BARE_LIMIT_S)


async def _ingestor(place: Deployment, count: int, *, exact: bool, folder: Path) -> Rate:
    with Processes(folder, place.env) as processes:
        url = _venue(processes, count)
        async with counting(place.bootstrap, place.raw, exact=exact) as written:
            symbols = ",".join(frames.SYMBOLS)
            args = ("ingest", "--provider", "binance", "--symbols", symbols, "--port", free_port())
            process = processes.mdstream(*args, env={"BINANCE_WS_URL": url})
            # The heartbeats, one per second and partition, are counted too: some hundred in all.
            found = await rate(process, written, frames=count, outputs=count, title="mdstream ingest")
        if status := process.stop():
            raise BenchmarkError(f"mdstream ingest ended with {status}: {last_words(process.output())}")
    return found


async def _verify(place: Deployment, count: int) -> None:
    """Raises BenchmarkError if the raw topic does not hold every frame."""
    found = 0
    async for record in frames.records(place.bootstrap, place.raw):
        found += decode_raw(record)[2] == TRADE
    if found != count:
        raise BenchmarkError(f"mdstream ingest wrote {found:,} of {count:,} frames")
