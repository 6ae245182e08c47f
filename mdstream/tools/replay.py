"""`mdstream replay`: a capture file into the raw topics, as if the venues sent it now.

capture file ─ read ─> frames ─ pace ─> chunks ─ route ─> batches by partition ─> md.raw.MARKET
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import click
from aiokafka.errors import KafkaError

from mdstream import kafka
from mdstream.cli import set_up_logging
from mdstream.cli.progress import Progress
from mdstream.config import Settings, load
from mdstream.errors import CaptureError, MdstreamError, SettingsError
from mdstream.kafka.publisher import Partitioner, Publisher
from mdstream.records import ProducerRecord
from mdstream.replay.capture import Frame, Reader
from mdstream.replay.raw import RawRecords
from mdstream.tools.running import run
from mdstream.venues.feed import Remembered
from mdstream.venues.providers import PROVIDERS
from topics import Topics

CHECKED_LINES = 1000
"""Lines read before the first is published, so that a file of another kind is refused as a whole."""
CHUNK_FRAMES = 4000
CHUNK_BYTES = 4 << 20
MAX_CHUNKS_UNDER_WAY = 16
EARLY_NS = 5_000_000
"""Frames may go out this much early: a timer for each would cost more than it gains."""
INTERRUPTED = 130

NS = 1_000_000_000


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=click.FloatRange(min=0, min_open=True), help="How many times faster than it happened.  [default: 1]"
)
@click.option("--as-fast-as-possible", "fast", is_flag=True, help="Without any pause.")
@click.option("--now", is_flag=True, help="Publish every frame with the present time as its receive time.")
@click.option("--loop", is_flag=True, help="Start over at the end, until Ctrl-C.")
def command(file: Path, speed: float | None, fast: bool, now: bool, loop: bool) -> None:
    """Publish a capture to the raw topics, in its order and at its pace.

    Every frame goes to md.raw.MARKET of its instrument, with the receive time it was captured with. Replaying a capture
    twice adds no trade to the canonical topics. It succeeds only when the broker has every frame.

    \b
    mdstream replay monday.jsonl.gz                         as it happened
    mdstream replay monday.jsonl.gz --speed 10              ten times faster
    mdstream replay monday.jsonl.gz --as-fast-as-possible
    mdstream replay monday.jsonl.gz --now --loop            a market that never closes, for trying things out
    """
    if fast and speed is not None:
        raise SettingsError("--speed and --as-fast-as-possible exclude each other: give one of them")
    set_up_logging()
    settings = load()
    _check(file)
    replay = Replay(settings, Pace(speed=None if fast else speed or 1.0, now=now))
    started = time.monotonic()
    try:
        finished = run(replay.run(file, loop=loop))
    except MdstreamError:
        click.echo(f"published {replay.published:,} frames of {file} before this error:", err=True)
        raise
    taken_s = time.monotonic() - started
    click.echo(
        f"published {replay.published:,} frames of {file} in {taken_s:.1f} s ({replay.published / taken_s:,.0f}/s)"
    )
    if finished is None and not loop:
        click.echo("stopped before the end", err=True)
        sys.exit(INTERRUPTED)


def _check(path: Path) -> None:
    """Read the first lines. Raises CaptureError if one is not of a capture, or of an unknown provider."""
    for _ in islice(Reader(path, providers=PROVIDERS), CHECKED_LINES):
        pass


class Pace:
    """When a frame is due, and which receive time it goes out with.

    `speed` None: at once. With `now` the receive time is the time that the frame is due at, so that no time is ever in
    the future, however fast the replay.
    """

    def __init__(self, *, speed: float | None, now: bool) -> None:
        self._speed, self._now = speed, now
        self._first_ns: int | None = None
        self._start_ns = 0

    def begin(self, now_ns: int) -> None:
        """Begin a round: its first frame is due now."""
        self._first_ns, self._start_ns = None, now_ns

    def due_ns(self, recv_ns: int, now_ns: int) -> int:
        """The time that a frame received at `recv_ns` is due at, in ns since 1970."""
        if self._speed is None:
            return now_ns
        if self._first_ns is None:
            self._first_ns = recv_ns
        return self._start_ns + int((recv_ns - self._first_ns) / self._speed)

    def stamp_ns(self, recv_ns: int, due_ns: int) -> int:
        """The receive time to publish."""
        return due_ns if self._now else recv_ns


class Replay:
    """Publishes captures; `published` counts the frames that the broker has acknowledged, also after an error."""

    def __init__(self, settings: Settings, pace: Pace) -> None:
        self.published = 0
        self._settings, self._pace = settings, pace
        self._topics = Topics(settings)
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-replay")
        self._routers = Remembered(self._router)
        self._partitions: dict[str, int] = {}
        self._under_way: deque[tuple[int, asyncio.Future[list[object]]]] = deque()

    async def run(self, path: Path, *, loop: bool) -> bool:
        """Publish the file, forever with `loop`; True when the broker has all of it.

        Raises CaptureError once everything before a corrupt line is published, BrokerError if the broker fails.
        """
        await self._publisher.start()
        try:
            self._partitions = await kafka.partition_counts(self._settings.bootstrap_servers)
            with Progress(f"replay {path.name}", "frames") as progress:
                while await self._round(path, progress) and loop:
                    pass
                return True
        except KafkaError as error:
            raise kafka.lost(self._settings.bootstrap_servers, error) from error
        finally:
            await self._publisher.stop()
            self._count_done()

    async def _round(self, path: Path, progress: Progress) -> bool:
        """Publish the file once. Returns whether it held any frame."""
        before = self.published
        reader = Reader(path, providers=PROVIDERS)
        self._pace.begin(time.time_ns())
        try:
            async for chunk in _chunks(reader, self._pace):
                await self._publish(chunk)
                progress.show(self.published, reader.fraction)
        finally:
            while self._under_way:
                await self._settle_oldest()
        return self.published > before

    async def _publish(self, chunk: Sequence[tuple[Frame, int]]) -> None:
        batches: dict[tuple[str, int], list[ProducerRecord]] = defaultdict(list)
        for frame, recv_ns in chunk:
            for where, record in self._routers[frame.provider].records(frame, recv_ns):
                batches[where].append(record)
        futures: list[asyncio.Future[object]] = []
        for (topic, partition), records in batches.items():
            futures += await self._publisher.send(topic, partition, records)
        self._under_way.append((len(chunk), asyncio.gather(*futures)))
        while len(self._under_way) > MAX_CHUNKS_UNDER_WAY or (self._under_way and self._under_way[0][1].done()):
            await self._settle_oldest()

    async def _settle_oldest(self) -> None:
        count, acknowledged = self._under_way[0]
        await asyncio.wait([acknowledged])  # unlike with a plain await, Ctrl-C here does not cancel what was sent
        acknowledged.result()
        self.published += count
        self._under_way.popleft()

    def _count_done(self) -> None:
        """Count what was acknowledged while an error or Ctrl-C ended the replay."""
        for count, acknowledged in self._under_way:
            if acknowledged.done() and not acknowledged.cancelled() and acknowledged.exception() is None:
                self.published += count
        self._under_way.clear()

    def _router(self, provider: str) -> _Router:
        return _Router(provider, self._topic_of)

    def _topic_of(self, market: str) -> tuple[str, int]:
        topic = self._topics.raw_of(market).name
        if topic not in self._partitions:
            raise kafka.no_topic(self._settings.bootstrap_servers, topic)
        return topic, self._partitions[topic]


class _Router:
    """Turns one provider's frames into raw records. `topic_of`: a market's raw topic and its number of partitions."""

    def __init__(self, provider: str, topic_of: Callable[[str], tuple[str, int]]) -> None:
        self._raw, self._topic_of = RawRecords(provider), topic_of
        self._partition_of = Remembered(self._place)

    def records(self, frame: Frame, recv_ns: int) -> Iterator[tuple[tuple[str, int], ProducerRecord]]:
        """(topic, partition) and the record of each part of a frame, as the ingestor would write them."""
        return ((self._partition_of[key], record) for key, record in self._raw.of(frame, recv_ns))

    def _place(self, key: bytes) -> tuple[str, int]:
        topic, partitions = self._topic_of(self._raw.provider.market_of_record(key))
        return topic, Partitioner(partitions)[key]


async def _chunks(frames: Iterable[Frame], pace: Pace) -> AsyncIterator[list[tuple[Frame, int]]]:
    """Frames with their receive times, in chunks that are due when they come out.

    Yields everything before a corrupt line, then raises its CaptureError.
    """
    chunk: list[tuple[Frame, int]] = []
    size = 0
    try:
        for frame in frames:
            now_ns = time.time_ns()
            due_ns = pace.due_ns(frame.recv_ns, now_ns)
            early = due_ns - now_ns > EARLY_NS
            if chunk and (early or len(chunk) >= CHUNK_FRAMES or size >= CHUNK_BYTES):
                yield chunk
                chunk, size = [], 0
            if early:
                await asyncio.sleep((due_ns - time.time_ns()) / NS)
            chunk.append((frame, pace.stamp_ns(frame.recv_ns, due_ns)))
            size += len(frame.frame)
    except CaptureError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk
