"""A table manager that leaves recovery to the transport.

Faust's own recovery reads changelogs through the worker's consumer, and while it does nothing else is processed; it is
known to hang and to be off by one on compacted changelogs, and a rebalance in the middle of it has left workers that
own partitions and process nothing (docs/decisions.md). Here every table is a cache: nothing waits for it, and what
restores it reads by itself (mdstream/core/latest.py). What is left of recovery is its last step, run after each
assignment: seek, resume.
"""

from __future__ import annotations

from typing import Any

import faust
from faust.tables import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from mdstream.publisher import Partitioner


class SeekOnly(Recovery):
    """After each assignment: position every partition, then let records flow."""

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            await self.wait_first(self.signal_recovery_start.wait())
            if self.should_stop:
                return
            self.signal_recovery_start.clear()
            try:
                # Raises RebalanceAgain where the next assignment is here already: its signal is set, so start over.
                await self._resume_streams(generation_id=self._generation_id)
            except RebalanceAgain:
                continue
            except ServiceStopped:
                if (
                    not self.should_stop
                ):  # Faust says so of a time limit too: without this the worker would own and do nothing
                    raise TimeoutError("partitions were not positioned in time") from None
                return

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Changelog partitions stay paused: there is nothing to read."""

    @Service.task
    async def _publish_stats(self) -> None:
        """There is no progress to report."""


class CacheTables(TableManager):
    """Faust's table manager with tables that never hold up a partition."""

    app: faust.App

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = SeekOnly(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class CacheTable(faust.Table[bytes, bytes]):
    """A table of bytes to bytes that knows the partition of a key by itself.

    Faust asks its producer, which raises TypeError as long as the broker has not told it of the changelog topic: right
    after the topic was made.
    """

    def __init__(self, app: faust.App, **options: Any) -> None:
        super().__init__(app, **options)
        self._partition_of = Partitioner(self.partitions or app.conf.topic_partitions)

    def partition_for_key(self, key: bytes) -> int:
        return self._partition_of(key)
