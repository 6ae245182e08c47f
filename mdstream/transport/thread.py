"""aiokafka's consumer in a thread of its own: it fetches, commits and stays in the group while the app's loop works."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiokafka
from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from mdstream.transport import fetch

if TYPE_CHECKING:
    from mdstream.transport.driver import Consumer

FETCH_MAX_WAIT_MS = 25
"""How long the broker may hold back an answer without data. All partitions share one request at a time, so a long wait
for quiet ones stalls the busy ones (Faust's own 1,500 ms cost 60% of the wall time)."""
FETCH_TIMEOUT_S = 1.0
MAX_OTHERS = 500
"""Records of other topics that are taken at once."""
POLL_S = 0.1


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka's consumer in its own thread; everything here but the constructor runs on that thread's loop."""

    consumer: Consumer
    _waiter: fetch.Waiter | None = None
    """The future of the last wait for records."""

    def _create_worker_consumer(self, transport: driver.Transport) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_MAX_WAIT_MS  # noqa: SLF001  Faust has no setting for it
        return consumer

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self._run_on_app_loop(super().on_partitions_revoked(revoked))

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        await self._run_on_app_loop(super().on_partitions_assigned(assigned, generation_id))

    async def _run_on_app_loop(self, app: Coroutine[Any, Any, None]) -> None:
        """Wait until the app's loop has done its part of a rebalance, or the app leaves the group for good: its loop
        answers no longer then. Not earlier: a member that rejoins while its app still commits is forgotten by aiokafka
        (its generation is over), but not by the group, which waits for it until its session ends."""
        running = asyncio.ensure_future(app)
        while not (running.done() or self.consumer.leaving):
            await asyncio.wait([running], timeout=POLL_S)
        if running.done():
            running.result()
        else:
            running.cancel()

    async def take(self, number: int, active: Collection[TP]) -> dict[TP, Any]:
        """Take what is buffered of these partitions, waiting for the first records.

        An abandoned call continues in this thread, and its result is lost: so it takes nothing.
        """
        consumer = self._ensure_consumer()
        fetcher = consumer._fetcher  # noqa: SLF001
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        batched = {tp for tp in active if tp.topic in self.consumer.batched_topics}
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            return await fetch.chunks(
                fetcher,
                batched,
                set(active) - batched,
                timeout_s=FETCH_TIMEOUT_S,
                max_others=MAX_OTHERS,
                may_take=lambda: self.consumer.flow_active and self.consumer.fetching == number,
                may_wait=self._may_wait,
            )

    def _may_wait(self, waiter: fetch.Waiter) -> bool:
        """Whether to wait: not if buffered records were left out only because their agent was busy, and it is not now.

        An agent that takes one later finds the waiter and wakes it, so nothing waits for records that are already here.
        """
        self._waiter = waiter
        return not (self.consumer.has_room and self._ensure_consumer()._fetcher._records)  # noqa: SLF001

    def wake(self, tp: TP) -> None:
        """End a wait for records that began while a batch of the partition was waiting, if more of it is buffered.

        Called on the app's loop. Without it the records would wait until another partition gets records.
        """
        waiter, consumer = self._waiter, self._consumer
        if waiter is None or waiter.done() or consumer is None or tp not in consumer._fetcher._records:  # noqa: SLF001
            return
        with suppress(RuntimeError):  # its loop is closed: we are stopping
            self.thread_loop.call_soon_threadsafe(fetch.end, waiter)

    async def committed(self, partitions: Collection[TP]) -> dict[TP, int | None]:
        """The committed offset of each partition, None if there is none. Raises KafkaError."""
        consumer = self._ensure_consumer()
        found = await consumer._coordinator.fetch_committed_offsets([TopicPartition(*tp) for tp in partitions])  # noqa: SLF001
        return {tp: found[tp].offset if tp in found and found[tp].offset >= 0 else None for tp in partitions}

    def close(self) -> None:
        """Nothing. Faust calls it in a rebalance that meets a stop, to cut the connections from the app's loop: then
        nobody could leave the group."""

    async def leave(self) -> None:
        """Leave the group, so that its other members take over."""
        await self._ensure_consumer().stop()

    async def commit_confirmed(self, offsets: Mapping[TP, int]) -> bool:
        """Commit; True only when the broker has confirmed every one."""
        try:
            await self._ensure_consumer().commit(
                {TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items()}
            )
        except (KafkaError, IllegalStateError) as error:
            self.log.warning("not committed, will be tried again: %s", error)
            return False
        return True
