"""The rows and signals of past events, as they were published live: from a capture, or from the canonical topics.

capture ─> the canonical stream, in this process ─┐
md.trades md.quotes md.status ────────────────────┴─> in the order of receive times ─> engine ─> a line per row
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mdstream.config import Settings
from mdstream.records import Partition
from mdstream.replay.capture import Frame, Reader
from mdstream.replay.raw import RawRecords
from mdstream.roles.canonical import factory
from mdstream.senpai.canonical import received_ns
from mdstream.senpai.configured import limits_of
from mdstream.senpai.course import SETTLE_NS, Course
from mdstream.senpai.engine import Engine
from mdstream.senpai.table import Table
from mdstream.stream.canonical import Canonical
from mdstream.stream.checkpoint import Restored
from mdstream.stream.output import Output
from mdstream.venues.providers import PROVIDERS
from topics import Topics

CHUNK = 500
"""Frames that are stepped at once."""


class Record(NamedTuple):
    """A raw record, as the transport hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes]]


async def backtest(settings: Settings, events: AsyncIterator[bytes] | Iterator[bytes], table: Table) -> Engine:
    """Write what the events make; the engine tells what became of them."""
    course = Course(Engine(limits_of(settings.senpai)))
    if isinstance(events, AsyncIterator):
        async for value in events:
            table.add(course.all(value))
    else:
        for value in events:
            table.add(course.all(value))
    engine = course.engine
    table.add(engine.advance(engine.latest_ns + SETTLE_NS + engine.limits.lateness_ns + engine.limits.step_ns))
    return engine


def events_of(settings: Settings, path: Path) -> Iterator[bytes]:
    """The canonical events of a capture, in the order of their receive times. Raises CaptureError.

    One partition has all instruments, so what the cluster's number of partitions is changes nothing.
    """
    canonical = _Canonical(settings.model_copy(update={"partitions": 1}))
    frames = iter(Reader(path, providers=PROVIDERS))
    while some := list(islice(frames, CHUNK)):
        found = [each for output in canonical.step(some) for each in _values(output)]
        yield from sorted(found, key=received_ns)


def _values(output: Output) -> Iterator[bytes]:
    for records in (output.status, output.trades, output.quotes):
        for _, value, *_ in records:
            assert value is not None  # an event
            yield value


class _Canonical:
    """The canonical streams of all markets, each raw topic's one partition."""

    def __init__(self, settings: Settings) -> None:
        self._new, self._topics = factory(settings), Topics(settings)
        self._raw = {name: RawRecords(name) for name in PROVIDERS}
        self._streams: dict[str, Canonical] = {}
        self._offset = 0

    def step(self, frames: Iterable[Frame]) -> Iterator[Output]:
        """What frames make, by market."""
        waiting: dict[str, list[Record]] = {}
        for frame in frames:
            raw = self._raw[frame.provider]
            for key, (_, value, at_ms, headers) in raw.of(frame, frame.recv_ns):
                topic = self._topics.raw_of(raw.provider.market_of_record(key)).name
                waiting.setdefault(topic, []).append(Record(self._offset, value, key, at_ms, headers))
                self._offset += 1
        for topic, records in waiting.items():
            if topic not in self._streams:
                self._streams[topic] = self._new(Partition(topic, 0), Restored())
            yield self._streams[topic].step(records)
