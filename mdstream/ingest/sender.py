"""From the backlog to Kafka: one delivery under way per partition, repeated until the broker has it.

    ticker   a record was added ──> 5 ms later every queue with records is due
    queue    due ──> take up to a batch ──> send, wait for the acknowledgement ──> release
                       ^    failed: wait, replace the producer if the error is permanent, send the same again

So each partition keeps its order, and in an outage the backlog is diverted to the spool. A delivery that the broker
stored but did not acknowledge is written twice: readers drop repeats by id.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

from aiokafka.errors import BrokerResponseError, KafkaError, RequestTimedOutError

from mdstream.errors import BrokerError, SettingsError
from mdstream.ingest.backlog import Backlog
from mdstream.ingest.counters import BusCounters
from mdstream.kafka.publisher import BATCH_BYTES, REQUEST_TIMEOUT_MS, Publisher
from mdstream.net.backoff import delays_s
from mdstream.records import Partition, ProducerRecord
from mdstream.watchdog.rule import PartitionProgress, State

log = logging.getLogger(__name__)

LINGER_S = 0.005
MAX_RETRY_S = 5.0
REFUSAL_S = 2 * REQUEST_TIMEOUT_MS / 1000
"""A refusal is valid for so long: the next attempt ends within half of it, acknowledged or refused again."""
DELIVERY_BYTES = BATCH_BYTES - 16_384
"""A delivery fits one batch: of two, the first could fail and the second succeed, in the wrong order."""


class Sender:
    """Empties the backlog's queues into `partitions` (topic, number), queue i into the i-th; `new_publisher` makes a
    producer that is not started. After a failure it waits `retry_s`, doubling up to MAX_RETRY_S.
    """

    def __init__(
        self,
        backlog: Backlog,
        partitions: Sequence[tuple[str, int]],
        new_publisher: Callable[[], Publisher],
        *,
        retry_s: float = 0.1,
    ) -> None:
        self.counters = BusCounters()
        self.started = False
        self._backlog, self._partitions, self._new_publisher = backlog, partitions, new_publisher
        self._publisher = new_publisher()
        self._replacing = asyncio.Lock()
        self._delivered = [0] * len(partitions)
        self._refusals: dict[int, tuple[float, str]] = {}  # when, and what the broker said
        self._due = [asyncio.Event() for _ in partitions]
        self._progress_s = time.monotonic()
        self._retry_s = retry_s

    async def start(self) -> None:
        """Connect. Raises BrokerError if no broker answers."""
        await self._publisher.start()
        self.started = True

    async def stop(self, limit_s: float) -> None:
        """Disconnect, within `limit_s`: without its broker a producer waits forever."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._publisher.stop(), limit_s)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._tick())
            for queue in range(len(self._partitions)):
                tasks.create_task(self._drain(queue))

    @property
    def stalled_s(self) -> float:
        """Seconds since Kafka last accepted a delivery, 0 while nothing is queued."""
        return time.monotonic() - self._progress_s if self._backlog.records else 0.0

    def state(self) -> State:
        """The watchdog's input: what Kafka has acknowledged in each partition, and what is waiting there.

        If the broker refuses a delivery (too few replicas, no permission), we hold the records: a restart would lose
        them and change nothing.
        """
        partitions = {
            Partition(*partition): PartitionProgress(0, done, done + self._backlog.taken(i) + self._backlog.queued(i))
            for i, (partition, done) in enumerate(zip(self._partitions, self._delivered, strict=True))
        }
        since_s = time.monotonic() - REFUSAL_S
        return State(partitions, holding=next((text for at_s, text in self._refusals.values() if at_s > since_s), None))

    async def _tick(self) -> None:
        filled = self._backlog.filled
        while True:
            idle = not self._backlog.records
            await filled.wait()
            if idle:  # with nothing to send there was no stall
                self._progress_s = time.monotonic()
            await asyncio.sleep(LINGER_S)
            filled.clear()
            for queue in self._backlog.waiting():
                self._due[queue].set()

    async def _drain(self, queue: int) -> None:
        due, backlog = self._due[queue], self._backlog
        while True:
            await due.wait()
            due.clear()
            more = True
            while more:
                records, more = backlog.take(queue, DELIVERY_BYTES)
                if records:
                    await self._deliver(queue, records)
                    self._delivered[queue] += len(records)
                    self._count(*backlog.release(queue))

    def _count(self, records: int, size_bytes: int) -> None:
        self._progress_s = time.monotonic()
        self.counters.records += records
        self.counters.bytes += size_bytes
        self.counters.deliveries += 1

    def _delays_s(self) -> Iterator[float]:
        return delays_s(random.Random(), min_s=self._retry_s, max_s=MAX_RETRY_S)

    async def _deliver(self, queue: int, records: Sequence[ProducerRecord]) -> None:
        topic, partition = self._partitions[queue]
        delays = self._delays_s()
        while True:
            publisher = self._publisher
            try:
                for future in await publisher.send(topic, partition, records):
                    await future
            except KafkaError as error:
                where = f"{topic}[{partition}]"
                self._refusals.pop(queue, None)
                if _is_refusal(error):
                    self._refusals[queue] = time.monotonic(), f"Kafka refuses records for {where}: {error!r}"
                await self._after_failure(publisher, error, where, delays)
            else:
                self._refusals.pop(queue, None)
                return

    async def _after_failure(
        self, publisher: Publisher, error: KafkaError, where: str, delays: Iterator[float]
    ) -> None:
        self.counters.errors += 1
        self.counters.last_error = f"{where}: {error!r}"
        delay_s = next(delays)
        log.warning("Kafka did not take a batch for %s, again in %.1f s: %r", where, delay_s, error)
        await asyncio.sleep(delay_s)
        # A failed batch leaves a hole in an idempotent producer's sequence, and the broker refuses all later batches; a
        # producer whose sender task died refuses everything. Both are permanent: only a new producer helps.
        if not error.retriable:
            await self._replace(publisher)

    async def _replace(self, failed: Publisher) -> None:
        async with self._replacing:
            if self._publisher is not failed:  # another queue has already replaced it
                return
            self.counters.restarts += 1
            await failed.stop()
            delays = self._delays_s()
            while True:
                fresh = self._new_publisher()
                try:
                    await fresh.start()
                except (BrokerError, SettingsError) as error:  # a password file that is being replaced, say
                    self.counters.last_error = str(error)
                    log.warning("%s", error)
                    await asyncio.sleep(next(delays))
                else:
                    self._publisher = fresh
                    return


def _is_refusal(error: KafkaError) -> bool:
    """Whether the broker has refused. A timeout or a lost connection is not a refusal."""
    return isinstance(error, BrokerResponseError) and not isinstance(error, RequestTimedOutError)
