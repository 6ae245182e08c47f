"""What every sink role is made of: its sinks, the loop that writes them, and where refused records go.

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
from mdstream.dead import dead_letter
from mdstream.errors import MdstreamError
from mdstream.kafka.publisher import Publisher, Record
from mdstream.sinks.base import Decoder, Refusal, Sink
from mdstream.sinks.loop import SinkLoop
from mdstream.sinks.metrics import SinkMetrics
from mdstream.transport.batch import Batch, Partition
from topics import Topics

log = logging.getLogger(__name__)


class SinkRole:
    """Stores the batches that are put in, until stopped. `name` is the role's, `event_of` decodes for its sinks."""

    def __init__(
        self, name: str, settings: Settings, sinks: Sequence[Sink], *, event_of: Decoder = events.decode
    ) -> None:
        self._topics = Topics(settings)
        self._sinks = sinks
        self._publisher = Publisher(settings.bootstrap_servers, client_id=f"mdstream-{name}")
        self._loop = SinkLoop(sinks, self._bury, event_of=event_of)
        self._running: asyncio.Task[None] | None = None
        self.metrics = SinkMetrics(self._loop, sinks)

    def attach(self, app: App, kinds: Collection[str]) -> list[str]:
        """Make this role's life the worker's; the names of the topics that hold these kinds of events."""
        names = [getattr(self._topics, kind).name for kind in kinds]
        app.around(before=self.start, after=self.stop)
        app.registry.register(self.metrics)
        app.keep(names, restore=self.restore, release=self.release)
        app.holds(self.holding)
        app.run_beside(self.run)
        return names

    async def start(self) -> None:
        """Open the sinks and connect. Raises SinkError where the settings are wrong, BrokerError."""
        for sink in self._sinks:
            try:
                await sink.open()
            except MdstreamError as error:
                if not error.retriable:
                    raise
                log.warning("%s; it is tried again with the first events", error)
        await self._publisher.start()

    async def run(self) -> None:
        """Store what is put in, until `stop`."""
        self._running = asyncio.create_task(self._loop.run())
        with suppress(asyncio.CancelledError):
            await self._running

    async def process(self, batch: Batch) -> None:
        """Take a batch; it is acknowledged once every sink has it. Waits while the sinks are behind."""
        await self._loop.put(batch)

    def holding(self) -> str | None:
        """Why nothing is acknowledged for now; None while every sink works."""
        return self._loop.holding()

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Where to begin: where the group was, as nothing else is kept of a partition."""
        return starts

    async def release(self, partitions: Iterable[Partition]) -> None:  # noqa: ARG002  all come at once
        """Return when everything that was taken is stored and acknowledged. With a sink that is down it never does."""
        await self._loop.settled()

    async def stop(self) -> None:
        """Let go of a write under way, close the sinks and disconnect."""
        if self._running is not None:  # it would open anew what is closed here
            self._running.cancel()
            await asyncio.wait([self._running])
        for sink in self._sinks:
            await sink.close()
        await self._publisher.stop()

    async def _bury(self, refused: Sequence[Refusal]) -> None:
        by_partition: dict[int, list[Refusal]] = {}
        for refusal in refused:
            by_partition.setdefault(refusal.partition.number, []).append(refusal)
        for number, some in by_partition.items():
            sent = await self._publisher.send(self._topics.dead.name, number, map(_letter, some))
            await asyncio.gather(*sent)


def _letter(refusal: Refusal) -> Record:
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
