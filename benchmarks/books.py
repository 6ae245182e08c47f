"""The cost of a kept book: of a change to it, and of a snapshot of 200,000 levels. One process, no broker.

Coinbase's frames, as they have the deepest books: `python -m benchmarks.books CHANGES` prints the figures as JSON. A
change has ten levels near the top, of a book of 20 or of 50,000 levels a side (the most that are kept); a snapshot has
100,000 a side, of which the best half is kept.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import TypeVar, cast

import click
from processes import PROJECT, Processes

from benchmarks.frames import Raw
from benchmarks.measure import BenchmarkError, last_words, own_peak_rss_bytes
from mdstream.records import WS, RawEncoder
from mdstream.stream.book import MAX_LEVELS, Book, UpdateResult
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import BookUpdate
from mdstream.venues.feed import BOOK
from mdstream.venues.providers import provider

SNAPSHOT_LEVELS = 200_000
CHANGED = 10
CHANGES = 20_000
ROUNDS = 3
LIMIT_S = 300.0
MIDDLE, START_NS, STEP_NS = 9_374_120, 1_767_625_200_000_000_000, 10_000_000
"""Cents; an update each 10 ms, so that a book is published after every tenth."""

T = TypeVar("T")


@dataclass(frozen=True)
class Books:
    """CPU seconds: of a change in a small and a full book, of one from raw record to events; of a snapshot."""

    small_s: float
    full_s: float
    event_s: float
    decode_s: float
    apply_s: float
    step_s: float
    image_s: float
    snapshot_bytes: int
    memory_bytes: int
    """By which a process grows at most while it takes up a snapshot."""


def measure(*, changes: int, folder: Path) -> Books:
    """All of it, in a process of its own. Raises BenchmarkError if that fails, AssertionError if it takes too long."""
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        process = processes.spawn([sys.executable, "-m", "benchmarks.books", changes], name="books")
        if process.wait(LIMIT_S):
            raise BenchmarkError(f"the books failed: {last_words(process.output())}")
        found = Books(**json.loads(process.output()))
    click.echo(f"books: {found.event_s * 1e6:.1f} us a change, {found.step_s * 1e3:,.0f} ms a snapshot", err=True)
    return found


def run(changes: int) -> Books:
    """Measure in this process, the memory first, while it is small."""
    frame = snapshot(SNAPSHOT_LEVELS // 2)
    before = own_peak_rss_bytes()
    step_s, _ = timed(lambda: _step(stream(), 0, frame))
    memory = own_peak_rss_bytes() - before
    updates = list(_updates(changes))
    decode_s, decoded = timed(lambda: provider("coinbase").decode(frame))
    (whole,) = cast(list[BookUpdate], decoded)
    apply_s, book = timed(lambda: _applied(whole))
    image_s, _ = timed(book.image)
    (small,) = cast(list[BookUpdate], provider("coinbase").decode(snapshot(20)))
    return Books(
        small_s=_each(_applied(small), updates),
        full_s=_each(book, updates),
        event_s=_events(frame, updates),
        decode_s=decode_s,
        apply_s=apply_s,
        step_s=step_s,
        image_s=image_s,
        snapshot_bytes=len(frame),
        memory_bytes=memory,
    )


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """The middle CPU time of some rounds, and the last result."""
    times = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        result = work()
        times.append(time.process_time() - begin)
    return median(times), result


def snapshot(levels: int) -> bytes:
    """A snapshot of so many levels a side, a cent apart."""
    bids = ",".join([f'["{price(MIDDLE - 1 - n)}","{1 + n % 97 / 8}"]' for n in range(levels)])
    asks = ",".join([f'["{price(MIDDLE + n)}","{1 + n % 89 / 8}"]' for n in range(levels)])
    head = '{"type":"snapshot","product_id":"BTC-USD"'
    return f'{head},"bids":[{bids}],"asks":[{asks}],"time":"2026-01-05T15:00:00Z"}}'.encode()


def price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _updates(count: int) -> Iterator[bytes]:
    """Changes near the top, a quarter of them removals; bids stay below asks."""
    random = Random(1)
    for number in range(count):
        levels = []
        for _ in range(CHANGED):
            away, size = int(random.expovariate(0.05)), random.randrange(1, 1_000) / 8 * (random.random() > 0.25)
            side, cents = random.choice((("buy", MIDDLE - 1 - away), ("sell", MIDDLE + away)))
            levels.append(f'["{side}","{price(cents)}","{size}"]')
        seconds, micros = divmod((number + 1) * STEP_NS // 1_000, 1_000_000)
        at = f"2026-01-05T15:{seconds // 60:02}:{seconds % 60:02}.{micros:06}Z"
        changes = ",".join(levels)
        yield f'{{"type":"l2update","product_id":"BTC-USD","changes":[{changes}],"time":"{at}"}}'.encode()


def _applied(whole: BookUpdate) -> Book:
    book = Book()
    if book.apply(whole, START_NS) is not UpdateResult.TOP:
        raise BenchmarkError("a snapshot was not taken")
    return book


def _each(book: Book, updates: list[bytes]) -> float:
    """CPU seconds that a change of a book takes, without its decoding."""
    decode = provider("coinbase").decode
    ticks = [cast(BookUpdate, tick) for frame in updates for tick in decode(frame)]
    begin = time.process_time()
    for tick in ticks:
        book.apply(tick, START_NS)
    return (time.process_time() - begin) / len(ticks)


def stream() -> Canonical:
    """A partition that follows the venue."""
    rules = Rules(Policy(("coinbase",)))
    return Canonical("md.raw.crypto", 0, [provider("coinbase")], rules=rules, announces=lambda _: True)


def _step(core: Canonical, offset: int, *frames: bytes) -> int:
    """Process frames; how many quotes and books came of them. Raises BenchmarkError for a frame that is refused."""
    encoder, records = RawEncoder("coinbase", WS), []
    for number, frame in enumerate(frames, offset):
        key, value, timestamp, headers = encoder.encode(b"BTCUSD", frame, BOOK, START_NS + number * STEP_NS)
        records.append(Raw(number, value or b"", headers, key, timestamp))
    out = core.step(records)
    if out.dead:
        raise BenchmarkError(f"a frame was refused: {out.dead[0][1]!r:.200}")
    return len(out.quotes) + len(out.books)


def _events(frame: bytes, updates: list[bytes]) -> float:
    """CPU seconds of a change from the raw record to quotes and books, of a full book."""
    core = stream()
    _step(core, 0, frame)
    begin = time.process_time()
    if _step(core, 1, *updates) < len(updates) // 20:
        raise BenchmarkError("hardly any event came of the changes")
    return (time.process_time() - begin) / len(updates)


if __name__ == "__main__":
    assert SNAPSHOT_LEVELS // 2 > MAX_LEVELS
    print(json.dumps(asdict(run(int(sys.argv[1])))))
