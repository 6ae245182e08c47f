"""SenpAI's consumer over a NATS server with JetStream: `python -m benchmarks.senpai_nats`.

How fast one consumer reads a stream that is there, all its messages stored, beside a bare nats-py subscriber that only
decodes the same events; and how late a row is after the event that made it, at 2,000 events a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from itertools import islice

import msgspec
import nats
from nats.js.api import ConsumerConfig, DeliverPolicy
from servers import nats_server
from sink_builders import TRADES, Rec

from benchmarks.report import machine, table
from benchmarks.senpai import T0, Load, stream
from mdstream import events
from mdstream.config import Settings, load
from mdstream.senpai.durable import Durable
from mdstream.senpai.share import Share
from mdstream.senpai.state import Histogram, State
from mdstream.sinks.base import decode
from mdstream.sinks.nats import JetStreamSink
from mdstream.transport import collector

EVENTS, PER_S, LIVE_S = 100_000, 2_000, 30
LOADS = (Load(20, PER_S), Load(200, PER_S))
CHUNK, TICK_S, LIMIT_S = 2_000, 0.01, 250.0


@dataclass
class Delays(Histogram):
    """Every delay itself."""

    all: list[float] = field(default_factory=list)

    def add(self, duration_s: float) -> None:
        self.all.append(duration_s)


async def store(settings: Settings, values: Iterable[bytes]) -> None:
    """Write events into the stream."""
    sink, some = JetStreamSink(settings), list(values)
    for first in range(0, len(some), CHUNK):
        records = [Rec(first + n, value) for n, value in enumerate(some[first : first + CHUNK])]
        await sink.write([decode(TRADES, records)[0]])
    await sink.close()


async def bare(settings: Settings) -> tuple[float, float]:
    """Wall and CPU seconds of a subscriber that decodes EVENTS events."""
    client = await nats.connect(settings.nats.url.get_secret_value())
    config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    subscription = await client.jetstream().subscribe(
        "", stream=settings.nats.stream, ordered_consumer=True, config=config, pending_bytes_limit=1 << 30
    )
    count = 0
    async for message in subscription.messages:
        events.decode(message.data)
        count += 1
        if count == EVENTS:
            break
    found = time.perf_counter() - wall_s, time.process_time() - cpu_s
    await client.close()
    return found


async def consumer(settings: Settings) -> tuple[float, float, int]:
    """The same of SenpAI's consumer, from its first message on; and the rows that it stored."""
    state = State("senpai-md", "jetstream")
    state.started_ns = 0  # whatever is in the stream is new
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    running = asyncio.create_task(Durable(settings, Share(), state).run())
    async with asyncio.timeout(LIMIT_S):
        await done(state, EVENTS)
    found = time.perf_counter() - wall_s, time.process_time() - cpu_s, state.features
    await cancelled(running)
    return found


async def done(state: State, count: int) -> None:
    """Return when so many events are stepped, and what they made is stored."""
    while state.received < count or state.unstored:  # noqa: ASYNC110  counters of another task
        await asyncio.sleep(TICK_S)


async def cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


async def latencies(settings: Settings, load_: Load) -> list[float]:
    """Seconds from the storing of an event to that of the row it made, sorted."""
    delays = Delays()
    state = State("senpai-md", "jetstream", delays=delays)
    running = asyncio.create_task(Durable(settings, Share(), state).run())
    values = [msgspec.json.decode(value) for value in stream(load_, PER_S * LIVE_S)]
    async for _ in stored_live(settings, values, PER_S):
        pass
    async with asyncio.timeout(LIMIT_S):
        await done(state, len(values))
    await cancelled(running)
    return sorted(delays.all)


async def stored_live(settings: Settings, values: Iterable[dict[str, object]], per_s: int) -> AsyncIterator[int]:
    """Write events into the stream as time passes, so many a second; yields now and then how many are written."""
    sink, waiting, written, begin_ns = JetStreamSink(settings), iter(values), 0, time.time_ns()
    while True:
        due = (time.time_ns() - begin_ns) * per_s // 1_000_000_000 - written
        some = [moved(value, begin_ns - T0) for value in islice(waiting, due)]
        if some:
            await sink.write([decode(TRADES, [Rec(written + n, value) for n, value in enumerate(some)])[0]])
        written += len(some)
        yield written
        if len(some) < due:
            break
        await asyncio.sleep(TICK_S)
    await sink.close()


def moved(value: dict[str, object], by_ns: int) -> bytes:
    """An event at another time."""
    times = {name: at + by_ns for name in ("ts_recv", "ts_exchange") if isinstance(at := value[name], int)}
    return msgspec.json.encode({**value, **times})


def main() -> None:
    print(f"{machine()}\n")
    collector.tune()  # as the process does
    lines: list[tuple[str, ...]] = [
        ("symbols", "consumer: events/s", "per CPU second", "bare: events/s", "per CPU second", "rows stored")
    ]
    waits = [("symbols", "p50 ms", "p99 ms")]
    for each in LOADS:
        with nats_server() as server:
            settings = load(nats_url=server.url, use_jetstream=True)
            asyncio.run(store(settings, stream(each, EVENTS)))
            wall_s, cpu_s, rows = asyncio.run(consumer(settings))
            bare_s, bare_cpu_s = asyncio.run(bare(settings))
        rates = [f"{EVENTS / seconds:,.0f}" for seconds in (wall_s, cpu_s, bare_s, bare_cpu_s)]
        lines.append((str(each.symbols), *rates, f"{rows:,}"))
        with nats_server() as server:
            found = asyncio.run(latencies(load(nats_url=server.url, use_jetstream=True), each))
        p50, p99 = (found[len(found) * percent // 100] * 1000 for percent in (50, 99))
        waits.append((str(each.symbols), f"{p50:.1f}", f"{p99:.1f}"))
    print(table(lines, texts=0))
    print(f"\nFrom an event's storing to that of the row it made, at {PER_S:,} events/s:\n")
    print(table(waits, texts=0))


if __name__ == "__main__":
    main()
