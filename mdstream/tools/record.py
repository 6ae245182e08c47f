"""`mdstream record`: raw topics into a capture file.

md.raw.MARKET ─ fetch ─> records by partition ─ merge by receive time ─> lines of the file
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

import click
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from mdstream import kafka
from mdstream.cli import set_up_logging
from mdstream.cli.progress import Progress
from mdstream.config import load
from mdstream.config.cluster import Brokers
from mdstream.errors import FrameError
from mdstream.records import OURS, contract_size_of, decode_raw, receive_ns
from mdstream.replay.capture import Frame, Merge, Writer
from mdstream.tools.running import run
from mdstream.venues.providers import provider as provider_named
from topics import Topics

FETCH_MS = 200
PATIENCE_S = 1.0
"""A partition that returns nothing for this long is idle: the others are written without waiting for it."""


@dataclass(frozen=True)
class Wanted:
    """What to record: frames of these providers and instruments (empty: all)."""

    providers: frozenset[bytes]
    keys: frozenset[bytes]

    def frame_of(self, record: ConsumerRecord[bytes, bytes]) -> Frame | None:
        """The venue's frame in a raw record; None if it is not wanted, not from a venue, or of no valid time."""
        if self.keys and record.key not in self.keys:
            return None
        try:
            provider, received_ns, kind = decode_raw(record)
        except FrameError:
            return None
        if kind in OURS or (self.providers and provider not in self.providers):
            return None
        contract_size = contract_size_of(record).decode("ascii", "replace")
        return Frame(received_ns, provider.decode(), record.value or b"", contract_size)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--market", default="crypto", show_default=True, help="Record md.raw.MARKET.")
@click.option(
    "--provider", "providers", multiple=True, help="Only this provider's frames; may be repeated.  [default: all]"
)
@click.option(
    "--symbol", "symbols", multiple=True, help="Only this instrument's frames; may be repeated.  [default: all]"
)
@click.option("--from-beginning", is_flag=True, help="Begin with the oldest frame that the broker has, not with now.")
@click.option("--to-end", is_flag=True, help="Stop at the end of the topic instead of waiting for more.")
@click.option(
    "--duration", type=click.FloatRange(min=0, min_open=True), help="Stop after so many seconds.  [default: Ctrl-C]"
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def command(
    file: Path,
    market: str,
    providers: tuple[str, ...],
    symbols: tuple[str, ...],
    from_beginning: bool,
    to_end: bool,
    duration: float | None,
    force: bool,
) -> None:
    """Record raw frames, byte for byte with their receive times, to replay them later.

    FILE is JSON lines, gzipped if the name ends in .gz. It is called FILE.part until it is finished; Ctrl-C finishes it
    too. Frames are in the order in which they were received, those of one instrument in the topic's order.

    \b
    mdstream record btc.jsonl --symbol BTCUSDT --duration 60
    mdstream record all.jsonl.gz --from-beginning --to-end       everything the broker still has
    """
    set_up_logging()
    settings = load()
    topic = Topics(settings).raw_of(market)
    names = frozenset(provider_named(name).name.encode() for name in providers)
    wanted = Wanted(names, frozenset(symbol.upper().encode() for symbol in symbols))
    started = time.monotonic()
    with Writer(file, overwrite=force) as writer:
        recorder = Recorder(settings.bootstrap_servers, topic.name, wanted, writer)
        run(recorder.run(from_beginning=from_beginning, to_end=to_end, duration_s=duration))
    click.echo(f"recorded {writer.frames:,} frames to {file} in {time.monotonic() - started:.1f} s")


class Recorder:
    """Copies one raw topic to a capture. Memory: at most one fetch of each partition."""

    def __init__(self, bootstrap_servers: Brokers, topic: str, wanted: Wanted, writer: Writer) -> None:
        self._bootstrap_servers, self._topic = bootstrap_servers, topic
        self._wanted, self._writer = wanted, writer

    async def run(self, *, from_beginning: bool, to_end: bool, duration_s: float | None) -> None:
        """Record until the end, the duration or a cancellation, whichever comes first."""
        partitions = await kafka.partitions_of(self._bootstrap_servers, self._topic)
        async with kafka.reader(self._bootstrap_servers) as consumer:
            consumer.assign(partitions)
            if not from_beginning:
                await consumer.seek_to_end(*partitions)
            try:
                async with asyncio.timeout(duration_s):
                    await self._copy(consumer, partitions, to_end=to_end)
            except TimeoutError:
                return

    async def _copy(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], *, to_end: bool) -> None:
        merge: Merge[TopicPartition, Frame | None] = Merge(partitions)
        idle: set[TopicPartition] = set()
        asked_since = time.monotonic()
        end = kafka.LogEnd(consumer, await consumer.end_offsets(partitions), quiet_s=PATIENCE_S) if to_end else None
        with Progress(f"record {self._topic}", "frames") as progress:
            try:
                while True:
                    chunk = await consumer.getmany(*merge.empty(), timeout_ms=FETCH_MS)
                    if chunk:
                        asked_since = time.monotonic()
                    elif time.monotonic() - asked_since >= PATIENCE_S:
                        idle |= set(merge.empty())
                    idle -= chunk.keys()
                    self._add(merge, chunk)
                    self._write(merge, idle)
                    progress.show(self._writer.frames)
                    if end is not None and await end.reached(empty=not chunk):
                        return
            finally:
                self._write(merge, set(partitions))

    def _add(
        self,
        merge: Merge[TopicPartition, Frame | None],
        chunk: dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]],
    ) -> None:
        # Also unwanted records: their time shows that nothing earlier will come from their partition.
        for partition, records in chunk.items():
            for record in records:
                merge.add(partition, receive_ns(record), self._wanted.frame_of(record))

    def _write(self, merge: Merge[TopicPartition, Frame | None], idle: set[TopicPartition]) -> None:
        for frame in merge.take(idle=idle):
            if frame is not None:
                self._writer.write(frame)
