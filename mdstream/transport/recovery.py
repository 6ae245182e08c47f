"""A table manager that leaves recovery to the transport.

Faust's own recovery reads changelogs through the worker's consumer, and meanwhile nothing else is processed. It is
known to hang, to be off by one on compacted changelogs, and, after a rebalance during recovery, to leave workers that
own partitions and process nothing (decision 5). Here every table is a cache: nothing waits for it, and it is restored
with a consumer of its own (mdstream/roles/latest.py). Only the last step of recovery remains, after each assignment:
seek, resume.
"""

from __future__ import annotations

from typing import Any, cast

import faust
from faust.tables import TableManager
from faust.tables.recovery import Recovery
from mode import Service

from mdstream.kafka.publisher import Partitioner


class SeekOnly(Recovery):
    """After each assignment: position every partition, then let records flow."""

    _term = -1
    """The consumer's term that partitions are positioned for. A later one has a later assignment: what is asked for
    this one must not be done in the midst of the next rebalance, with the partitions of the last."""

    async def on_rebalance(self, *_: Any, **__: Any) -> None:
        """Partitions were assigned. The consumer knows which, and whether they are still ours."""
        self.take_over()

    def take_over(self) -> None:
        """Position the partitions that are assigned now, unless they are given up before that is done."""
        self._term = cast(Any, self.app).consumer.term
        self.signal_recovery_start.set()

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            await self.wait_first(self.signal_recovery_start.wait())
            self.signal_recovery_start.clear()
            if not self.should_stop:
                await self._resume_streams()

    async def _resume_streams(self, generation_id: int = 0) -> None:  # noqa: ARG002  Faust's signature
        """Faust's method, without its own positioning and its detection of the next rebalance."""
        app = cast(Any, self.app)
        consumer = app.consumer
        await app.on_rebalance_complete.send()
        if not await consumer.take_over(self._term):
            return  # the next assignment gets here again
        consumer.resume_partitions({tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)})
        self.completed.set()
        app.flow_control.resume()
        consumer.resume_flow()
        await app._fetcher.maybe_start()  # noqa: SLF001
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        app.on_rebalance_end()
        self.log.info("Worker ready")

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Changelog partitions stay paused: there is nothing to read."""

    @Service.task
    async def _publish_stats(self) -> None:
        """There is no progress to report."""


class CacheTables(TableManager):
    """Faust's table manager with tables that never delay a partition."""

    app: faust.App

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = SeekOnly(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class CacheTable(faust.Table[bytes, bytes]):
    """A table from bytes to bytes that computes the partition of a key itself.

    Faust asks its producer, which raises TypeError until it has the changelog topic's metadata: right after the topic
    was created.
    """

    def __init__(self, app: faust.App, **options: Any) -> None:
        super().__init__(app, **options)
        self._partition_of = Partitioner(self.partitions or app.conf.topic_partitions)

    def partition_for_key(self, key: bytes) -> int:
        return self._partition_of(key)
