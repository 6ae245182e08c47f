"""A producer that retries forever: `write` returns when the broker has the records, however long that takes.

The order of calls is the order in the log. A record that the broker stored although it reported an error is written
twice: whoever reads it has to know it by its id.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from aiokafka.errors import KafkaError

from mdstream.config.cluster import Brokers
from mdstream.errors import BrokerError
from mdstream.kafka.publisher import Publisher
from mdstream.net.backoff import delays_s
from mdstream.records import ProducerRecord

log = logging.getLogger(__name__)

MIN_RETRY_S, MAX_RETRY_S = 0.2, 10.0
DISCONNECT_LIMIT_S = 5.0


class Writer:
    """`problem`: why the broker currently takes nothing."""

    def __init__(self, bootstrap_servers: Brokers, *, client_id: str) -> None:
        self._bootstrap_servers, self._client_id = bootstrap_servers, client_id
        self._publisher = self._new_publisher()
        self._replacing = asyncio.Lock()
        self.problem: str | None = None

    def _new_publisher(self) -> Publisher:
        return Publisher(self._bootstrap_servers, client_id=self._client_id)

    async def start(self) -> None:
        """Connect. Raises BrokerError if no broker answers."""
        await self._publisher.start()

    async def stop(self) -> None:
        """Disconnect within a limit: without its broker a producer waits forever."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._publisher.stop(), DISCONNECT_LIMIT_S)

    async def write(self, topic: str, partition: int, records: Sequence[ProducerRecord]) -> int:
        """Return when the broker has these records: the offset of the last batch."""
        delays = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
        while True:
            publisher = self._publisher
            try:
                written: list[Any] = [await future for future in await publisher.send(topic, partition, records)]
            except KafkaError as error:
                delay_s = next(delays)
                self.problem = f"Kafka does not take records for {topic}[{partition}]: {error!r}"
                log.warning("%s; again in %.1f s", self.problem, delay_s)
                await asyncio.sleep(delay_s)
                # After such an error an idempotent producer refuses all that follows: only a new one helps.
                if not error.retriable:
                    await self._replace(publisher)
            else:
                self.problem = None
                return int(written[-1].offset)

    async def _replace(self, failed: Publisher) -> None:
        async with self._replacing:
            if self._publisher is not failed:  # another caller has replaced it already
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(failed.stop(), DISCONNECT_LIMIT_S)
            delays = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
            while True:
                fresh = self._new_publisher()
                try:
                    await fresh.start()
                except BrokerError as error:
                    self.problem = str(error)
                    await asyncio.sleep(next(delays))
                else:
                    self._publisher = fresh
                    return
