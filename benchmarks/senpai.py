"""SenpAI's engine alone, in this process: `python -m benchmarks.senpai`.

Events per second at several loads, beside a loop that only decodes the same events; memory of one symbol that trades
10,000 times a second for a minute.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from benchmarks.report import machine, table
from mdstream import events
from mdstream.events import Quote, Trade, encode
from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import encode as encode_message
from mdstream.transport import collector

SECOND_NS = 1_000_000_000
T0 = 1_767_625_200 * SECOND_NS
EVENTS = 200_000
BURST_PER_S, BURST_S = 10_000, 60


class Load(NamedTuple):
    """Trades and quotes of so many symbols, half and half."""

    symbols: int
    per_s: int


LOADS = (Load(1, 10_000), Load(20, 2_000), Load(200, 2_000), Load(200, 20_000))


def stream(load: Load, count: int) -> Iterator[bytes]:
    """Events whose prices walk and whose latencies differ."""
    rng, seqs = random.Random(1), Counter[tuple[str, bool]]()
    for number in range(count):
        received = T0 + number * SECOND_NS // load.per_s
        at, is_trade = received - rng.randrange(5, 80) * 1_000_000, number % 2 == 0
        symbol = f"S{rng.randrange(load.symbols)}USDT"
        seqs[symbol, is_trade] += 1
        seq, price, size = seqs[symbol, is_trade], 100 + rng.random(), rng.random()
        if is_trade:
            yield encode(Trade(symbol, seq, "binance", str(number), price, size, "buy", at, received))
        else:
            yield encode(Quote(symbol, seq, "binance", price, size, price + 0.01, size, at, received))


def rate(work: Callable[[bytes], object], values: list[bytes]) -> float:
    """Events per CPU second."""
    used_s = time.process_time()
    for value in values:
        work(value)
    return len(values) / (time.process_time() - used_s)


def engine_rate(values: list[bytes]) -> tuple[float, int]:
    """Events per CPU second, the messages encoded; and how many messages there were."""
    engine, sent = Engine(), Counter[str]()

    def work(value: bytes) -> None:
        for message in engine.step(value):
            sent["all"] += len(encode_message(message)) > 0

    return rate(work, values), sent["all"]


def burst_bytes() -> int:
    """Memory that one symbol takes after a minute at 10,000 trades a second."""
    engine = Engine()
    load = Load(1, 2 * BURST_PER_S)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for value in stream(load, 2 * BURST_PER_S * BURST_S):
        engine.step(value)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return after - before


def main() -> None:
    print(f"{machine()}\n")
    collector.tune()  # as the process does
    lines = [("symbols, events/s of the stream", "events/s", "messages", "decoding alone: events/s")]
    for load in LOADS:
        values = list(stream(load, EVENTS))
        found, messages = engine_rate(values)
        lines.append(
            (f"{load.symbols}, {load.per_s:,}", f"{found:,.0f}", f"{messages:,}", f"{rate(events.decode, values):,.0f}")
        )
    print(table(lines, texts=1))
    print(
        f"\nMemory of a symbol with 10,000 trades and 10,000 quotes a second for a minute: {burst_bytes() / 1e6:.1f} MB"
    )


if __name__ == "__main__":
    main()
