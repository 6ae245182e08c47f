"""The rules of the core worker with 10 and with 5,000 symbols of one provider in one partition. No broker.

`python -m benchmarks.symbols SYMBOLS FRAMES`, each in a process of its own, prints the figures as JSON. The frames are
trades at 10,000 a second of log time, each symbol in turn. The cost of a frame includes the evaluations in between,
four times a second of log time: of 5,000 instruments, half have new trades at each. What Kafka, connections and
start-up cost is not in it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from processes import PROJECT, Processes

from benchmarks import frames
from benchmarks.frames import Raw
from benchmarks.measure import BenchmarkError, last_words, own_peak_rss_bytes
from mdstream.records import WS, RawEncoder
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.venues.feed import TRADE
from mdstream.venues.providers import provider

FEW, MANY = 10, 5_000
CHUNK = 1_000
LIMIT_S = 300.0


@dataclass(frozen=True)
class Symbols:
    """With so many: CPU seconds of a frame, of routing one in the ingestor, and memory of the instruments."""

    count: int
    step_s: float
    route_s: float
    memory_bytes: int


def measure(*, count: int, folder: Path) -> tuple[Symbols, Symbols]:
    """With few and with many. Raises BenchmarkError if a process fails, AssertionError if it takes too long."""
    few, many = (_of(symbols, count, folder) for symbols in (FEW, MANY))
    click.echo(f"{MANY:,} symbols: {many.step_s / few.step_s:.2f} times the cost of {FEW}", err=True)
    return few, many


def _of(symbols: int, count: int, folder: Path) -> Symbols:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        process = processes.spawn([sys.executable, "-m", "benchmarks.symbols", symbols, count], name="symbols")
        if process.wait(LIMIT_S):
            raise BenchmarkError(f"{symbols} symbols failed: {last_words(process.output())}")
        return Symbols(**json.loads(process.output()))


def run(symbols: int, count: int) -> Symbols:
    """Measure in this process: every symbol twice before, so that each has its state."""
    venue = provider("binance")
    rules = Rules(Policy(("binance",)))
    core = Canonical("md.raw.crypto", 0, [venue], rules=rules, announces=lambda _: True)
    names, known, step_s, route_s = frames.symbols_of(symbols), 2 * symbols, 0.0, 0.0
    before = own_peak_rss_bytes()
    for first in range(0, known + count, CHUNK):
        records = _records(first, names)
        begin = time.process_time()
        out = core.step(records)
        stepped = time.process_time()
        for record in records:
            venue.route(record.value)
        if first >= known:
            step_s, route_s = step_s + stepped - begin, route_s + time.process_time() - stepped
        if out.dead or not out.trades:
            raise BenchmarkError("a frame was refused")
    done = len(range(0, known + count, CHUNK)) - len(range(0, known, CHUNK))
    return Symbols(symbols, step_s / done / CHUNK, route_s / done / CHUNK, own_peak_rss_bytes() - before)


def _records(first: int, names: tuple[str, ...]) -> list[Raw]:
    encode, records = RawEncoder("binance", WS).encode, []
    for number in range(first, first + CHUNK):
        symbol, text, received_ns = frames.frame(number, names)
        key, _, timestamp, headers = encode(symbol, text, TRADE, received_ns)
        records.append(Raw(number, text, headers, key, timestamp))
    return records


if __name__ == "__main__":
    print(json.dumps(asdict(run(int(sys.argv[1]), int(sys.argv[2])))))
