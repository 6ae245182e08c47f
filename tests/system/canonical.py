"""Canonical events for the tests of sinks: made, written to their topics, and how far a sink's group has come."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError
from processes import run_mdstream

from mdstream import events, kafka
from mdstream.config import Settings, load
from mdstream.events import Bar, Heartbeat, Quote, Trade
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord
from topics import Topics

SYMBOLS = [f"S{n}USDT" for n in range(20)]
T0 = 1_767_625_200_000_000_000
SPACING_NS = 1_000_000
RECORD_MS = T0 // 1_000_000
ROUNDS_A_BAR = 10
"""Rounds that make one bar: each writes it again, with the next revision."""
TICK_S = 0.1

Event = tuple[str, bytes, bytes]
"""Kind (as in Topics), key and value."""


def made_settings(env: Mapping[str, str]) -> Settings:
    """The worker's settings, its topics declared."""
    settings = load(
        bootstrap_servers=env["KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=env["MDSTREAM_TOPIC_PREFIX"],
        partitions=int(env["MDSTREAM_PARTITIONS"]),
        data_dir=Path(env["MDSTREAM_DATA_DIR"]),
    )
    asyncio.run(_create(settings))
    return settings


async def _create(settings: Settings) -> None:
    await kafka.create_topics(settings.bootstrap_servers, Topics(settings))


def trades(first: int, following: int) -> Iterator[Event]:
    """The trades numbered [first, following) of every symbol."""
    for n in range(first, following):
        at = T0 + n * SPACING_NS
        for symbol in SYMBOLS:
            yield (
                "trades",
                symbol.encode(),
                events.encode(Trade(symbol, n, "binance", str(n), 1.5, 2.0, "buy", at, at + 1)),
            )


def rounds(first: int, following: int) -> Iterator[Event]:
    """Rounds [first, following) of all kinds: of each symbol a trade, a quote and its bar so far; and a heartbeat."""
    for n in range(first, following):
        at = T0 + n * SPACING_NS
        yield from trades(n, n + 1)
        for symbol in SYMBOLS:
            key = symbol.encode()
            yield "quotes", key, events.encode(Quote(symbol, n, "okx", 1.0, 2.0, None, None, None, at))
            bar, revision = divmod(n, ROUNDS_A_BAR)
            ts_open = T0 + bar * 60_000_000_000
            yield "bars", key, events.encode(Bar(symbol, "1m", ts_open, 1.0, 2.0, 0.5, 1.5, 10.0, 15.0, n, revision))
        yield "status", b"binance", events.encode(Heartbeat("__system__", "binance", None, at))


def publish(settings: Settings, made: Iterable[Event]) -> None:
    """Write them, each kind's and key's in order."""
    asyncio.run(_publish(settings, made))


async def _publish(settings: Settings, made: Iterable[Event]) -> None:
    publisher = Publisher(settings.bootstrap_servers, client_id="test-canonical")
    await publisher.start()
    try:
        await _write(settings, publisher, made)
    finally:
        await publisher.stop()


async def _write(settings: Settings, publisher: Publisher, made: Iterable[Event]) -> None:
    topics, partition_of = Topics(settings), Partitioner(settings.partitions)
    waiting: dict[tuple[str, int], list[ProducerRecord]] = {}
    for kind, key, value in made:
        waiting.setdefault((getattr(topics, kind).name, partition_of(key)), []).append((key, value, RECORD_MS, []))
    for (topic, number), records in waiting.items():
        await asyncio.gather(*await publisher.send(topic, number, records))


class Load:
    """Rounds written at a steady pace by a thread of its own, until stopped."""

    def __init__(self, settings: Settings, events_per_s: float) -> None:
        self._settings, self._rounds_per_s = settings, events_per_s / len(list(rounds(0, 1)))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.following = 0
        """Rounds that the broker has."""

    async def _run(self) -> None:
        publisher = Publisher(self._settings.bootstrap_servers, client_id="test-load")
        await publisher.start()
        began = time.monotonic()
        while not self._stopping.is_set():
            due = int((time.monotonic() - began) * self._rounds_per_s)
            await _write(self._settings, publisher, rounds(self.following, due))
            self.following = max(self.following, due)
            await asyncio.sleep(TICK_S)
        await publisher.stop()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> int:
        """Rounds that were written in all."""
        self._stopping.set()
        self._thread.join()
        return self.following


@contextmanager
def load_of(settings: Settings, events_per_s: float) -> Iterator[Load]:
    """A load that runs; it is stopped on exit at the latest."""
    load = Load(settings, events_per_s)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def expected(following: int) -> Counter[tuple[str, str]]:
    """Each trade numbered [0, following) once, by symbol and id."""
    return Counter((symbol, str(n)) for n in range(following) for symbol in SYMBOLS)


def committed(settings: Settings, role: str, *kinds: str) -> int:
    """The sum of the role's committed offsets on the topics of these kinds."""
    return asyncio.run(_committed(settings, role, kinds))


async def _committed(settings: Settings, role: str, kinds: tuple[str, ...]) -> int:
    topics = [getattr(Topics(settings), kind) for kind in kinds]
    asked = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
    async with kafka.admin(settings.bootstrap_servers) as admin:
        try:
            offsets = await admin.list_consumer_group_offsets(f"{settings.topic_prefix}.{role}", partitions=asked)
        except (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError):
            return 0  # Apache Kafka makes its offsets topic when it is first asked for
    return sum(max(0, at.offset) for at in offsets.values())


def audit(env: Mapping[str, str], *args: object) -> dict[str, Any]:
    """What `mdstream audit` reports. Of these tests' raw topics, which are empty, it makes differences too."""
    done = run_mdstream("audit", "--json", "--list", 10_000, *args, env=env, timeout=400)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def of_hop(report: dict[str, Any], hop: str, what: str = "differences") -> list[dict[str, Any]]:
    """What the audit found between the canonical topic and the hop."""
    return [found for found in report[what] if found["hop"] == hop]
