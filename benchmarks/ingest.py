"""Websocket to raw topic, one `mdstream ingest`, compared with a bare receive loop on the same frames: the limit."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import click
from processes import PROJECT, Process, Processes, free_port

from benchmarks import frames
from benchmarks.counter import counting
from benchmarks.deployment import Broker, Deployment, deployment
from benchmarks.measure import POLL_S, BenchmarkError, Count, Rate, last_words, peak_rss_bytes, rate, rate_reported_by
from mdstream.records import decode_raw
from mdstream.venues.binance.feed import Binance
from mdstream.venues.feed import TRADE

BARE_LIMIT_S = 120.0
SYMBOLS, FEW, MANY = len(frames.SYMBOLS), 10, 5_000


@dataclass(frozen=True)
class Ingestor:
    """An ingestor with so many symbols. `start_s`: from its start to its first frame in Kafka."""

    symbols: int
    rate: Rate
    start_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Ingest:
    """Rates of one process from a websocket: the ingestor, and a loop that discards everything."""

    ingestor: Rate
    bare: Rate
    few: Ingestor
    many: Ingestor


async def measure(broker: Broker, *, count: int, folder: Path) -> Ingest:
    """Send `count` frames to each of them.

    Raises BenchmarkError if a process ends or stalls, or a frame does not arrive.
    """
    bare = _bare(count, folder)
    click.echo(f"bare receive loop ({count:,} frames): {bare.per_second:,.0f} frames/s", err=True)
    usual, few, many = [await _measured(broker, symbols, count, folder) for symbols in (SYMBOLS, FEW, MANY)]
    return Ingest(usual.rate, bare, few, many)


async def _measured(broker: Broker, symbols: int, count: int, folder: Path) -> Ingestor:
    connections = -(-symbols // Binance.max_symbols)
    each = count // connections
    async with deployment(broker, "ingest") as place:
        found = await _ingestor(place, symbols, each, each * connections, exact=broker.exact_ends, folder=folder)
        await _verify(place, each * connections)
    title = f"mdstream ingest ({symbols:,} symbols, {each * connections:,} frames)"
    click.echo(f"{title}: {found.rate.per_second:,.0f} frames/s", err=True)
    return found


def _venue(processes: Processes, count: int, symbols: int = SYMBOLS) -> str:
    """Start the server. Returns its URL."""
    port = free_port()
    args = [sys.executable, "-m", "benchmarks.blast", port, count, symbols]
    processes.spawn(args, name="venue", env={"PYTHONPATH": str(PROJECT)}).wait_for("ready")
    return f"ws://127.0.0.1:{port}/stream"


def _bare(count: int, folder: Path) -> Rate:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        url = _venue(processes, count)
        loop = processes.spawn([sys.executable, "-m", "benchmarks.bare", url, count], name="bare")
        return rate_reported_by(loop, "the bare receive loop", limit_s=BARE_LIMIT_S)


async def _ingestor(place: Deployment, symbols: int, each: int, count: int, *, exact: bool, folder: Path) -> Ingestor:
    """The venue sends `each` frames per connection, `count` in all."""
    listed = folder / "symbols.txt"
    listed.write_text("\n".join(frames.symbols_of(symbols)))
    with Processes(folder, place.env) as processes:
        env = {"BINANCE_WS_URL": _venue(processes, each, symbols)}
        async with counting(place.bootstrap, place.raw, exact=exact) as written:
            args = ("ingest", "--provider", "binance", "--symbols", f"file:{listed}", "--port", free_port())
            process = processes.mdstream(*args, env=env)
            start_s = await _first(process, written)
            # The heartbeats, one per second and partition, are counted too: some hundred in all.
            found = await rate(process, written, frames=count, outputs=count, title="mdstream ingest")
            peak_bytes = peak_rss_bytes(process.pid)
        if status := process.stop():
            raise BenchmarkError(f"mdstream ingest ended with {status}: {last_words(process.output())}")
    return Ingestor(symbols, found, start_s, peak_bytes)


async def _first(process: Process, written: Count) -> float:
    """Seconds until the first record is there, or the process has ended."""
    begin = time.monotonic()
    while process.running:
        if await written():
            break
        await asyncio.sleep(POLL_S)
    return time.monotonic() - begin


async def _verify(place: Deployment, count: int) -> None:
    """Raises BenchmarkError if the raw topic does not hold every frame."""
    found = 0
    async for record in frames.records(place.bootstrap, place.raw):
        found += decode_raw(record)[2] == TRADE
    if found != count:
        raise BenchmarkError(f"mdstream ingest wrote {found:,} of {count:,} frames")
