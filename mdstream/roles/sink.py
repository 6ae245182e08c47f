"""The common parts of sink roles: the sinks, the loop that writes to them, and dead letters for refused records.

canonical topics ─> agent ─ process ─> SinkLoop ─┬─> each sink ─> acknowledge
                                                 └─> md.dead
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from mdstream import events
from mdstream.app import App
from mdstream.config import Settings
from mdstream.errors import MdstreamError
from mdstream.kafka.publisher import Publisher
from mdstream.records import Partition, ProducerRecord
from mdstream.sinks.base import Decoder, Refusal, Sink
from mdstream.sinks.loop import SinkLoop
from mdstream.sinks.metrics import SinkMetrics
from mdstream.stream.dead import dead_letter
from mdstream.transport.batch import Batch
from topics import Topics

log = logging.getLogger(__name__)


class SinkRole:
    """Stores the batches it is given, until stopped. `name` is the role's, `event_of` decodes records for its sinks."""

    def __init__(
        self, name: str, settings: Settings, sinks: Sequence[Sink], *, event_of: Decoder = events.decode
    ) -> None:
        self._topics = Topics(settings)
        self._sinks = sinks
        self._publisher = Publisher(settings.bootstrap_servers, client_id=f"mdstream-{name}")
        self._loop = SinkLoop(sinks, self._dead_letter, event_of=event_of)
        self._running: asyncio.Task[None] | None = None
        self.metrics = SinkMetrics(self._loop, sinks)

    def attach(self, app: App, kinds: Collection[str]) -> list[str]:
        """Tie this role to the worker's start and stop; the names of the topics that hold these kinds of events."""
        names = [getattr(self._topics, kind).name for kind in kinds]
        app.around(before=self.start, after=self.stop)
        app.registry.register(self.metrics)
        app.keep(names, restore=self.restore, release=self.release)
        app.holds(self.holding)
        app.run_beside(self.run)
        return names

    async def start(self) -> None:
        """Open the sinks and connect. Raises SinkError for wrong settings, BrokerError."""
        for sink in self._sinks:
            try:
                await sink.open()
            except MdstreamError as error:
                if not error.retriable:
                    raise
                log.warning("%s; it is tried again with the first events", error)
        await self._publisher.start()

    async def run(self) -> None:
        """Store the batches it is given, until `stop`."""
        self._running = asyncio.create_task(self._loop.run())
        with suppress(asyncio.CancelledError):
            await self._running

    async def process(self, batch: Batch) -> None:
        """Accept a batch; it is acknowledged once every sink has it. Waits while the sinks are behind."""
        await self._loop.put(batch)

    def holding(self) -> str | None:
        """Why nothing is acknowledged at present; None while every sink works."""
        return self._loop.holding()

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Start at the group's offsets: a sink keeps no other state of a partition."""
        return starts

    async def release(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002  always all of them
        """Return when everything accepted is stored and acknowledged. While a sink is down, it does not return."""
        await self._loop.settled()

    async def stop(self) -> None:
        """Abandon a write under way, close the sinks and disconnect."""
        if self._running is not None:  # it would reopen what is closed here
            self._running.cancel()
            await asyncio.wait([self._running])
        for sink in self._sinks:
            await sink.close()
        await self._publisher.stop()

    async def _dead_letter(self, refused: Sequence[Refusal]) -> None:
        by_partition: dict[int, list[Refusal]] = {}
        for refusal in refused:
            by_partition.setdefault(refusal.partition.number, []).append(refusal)
        for number, some in by_partition.items():
            sent = await self._publisher.send(self._topics.dead.name, number, map(_letter, some))
            await asyncio.gather(*sent)


def _letter(refusal: Refusal) -> ProducerRecord:
    (topic, number), record = refusal.partition, refusal.record
    value = dead_letter(
        error=refusal.reason,
        topic=topic,
        partition=number,
        offset=record.offset,
        key=record.key,
        value=record.value,
        headers=record.headers,
    )
    return topic.encode(), value, record.timestamp, []
