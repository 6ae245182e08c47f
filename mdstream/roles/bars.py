"""Connects agents/bars.py with the pure bars.

    batch ─> step                                                     once a second, and as soon as bars close:
    collect ─> checkpoint, the bars in it ─> does it count? ─> publish them ─> acknowledge the input

Checkpoint first, publish second, unlike canonical.py: when a bar of a quiet market closes, and so how often it is
revised, depends on the clock, which is not in the log. A worker that recomputed it could number the revisions
differently, and a reader that keeps the highest would keep the wrong one. So a revision is stored, where every later
owner continues from it, before anyone sees it. A crash between any two arrows repeats work or publishes the same bytes
again, and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from mdstream.bars import state as bars_state
from mdstream.bars.bars import Bars
from mdstream.bars.rules import SECOND_NS, Rules
from mdstream.bars.state import Progress
from mdstream.config import Settings
from mdstream.records import Partition, ProducerRecord, Record
from mdstream.roles.bars_metrics import BarsMetrics
from mdstream.roles.state_log import StateLog, now_ms
from mdstream.roles.stateful import Owned, Snapshot, StatefulRole
from mdstream.stream.ledger import Ledger
from mdstream.transport.batch import Batch
from topics import Topics

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""After so long without a trade, a partition's event time follows the clock, so that its last bars close."""
PAUSE_S = 0.25
"""Least time between two checks for due bars: a worker that is catching up closes bars all the time."""
MAX_BARS = 12_000
"""About how many changed bars are collected at once: with those of one batch, half of what a checkpoint may hold."""


class _Owned(Owned):
    """One partition of md.trades while it is ours."""

    def __init__(self, partition: Partition, claim: int, bars: Bars, made: Progress) -> None:
        super().__init__(partition, claim, made.position)
        self.bars, self.position = bars, made.position
        self.outbox = made.outbox  # numbered, not yet published
        self.changes: dict[bytes, ProducerRecord] = {}  # collected, not yet in a checkpoint, by key
        self.heard_s = self.written_s = time.monotonic()

    def until_ns(self, now_s: float) -> int:
        """The watermark: by the trades, or by the clock if none have arrived for a while."""
        quiet_s = now_s - self.heard_s - QUIET_S
        return self.bars.watermark_ns + max(0, int(quiet_s * SECOND_NS))


@dataclass
class _Snapshot(Snapshot[_Owned]):
    changes: dict[bytes, ProducerRecord]
    outbox: list[bytes]

    def put_back(self) -> None:
        super().put_back()
        self.owned.outbox[:0] = self.outbox
        self.owned.changes = self.changes | self.owned.changes


class BarsRole(StatefulRole[_Owned, _Snapshot]):
    """The partitions of md.trades of this worker."""

    _layout = bars_state.LAYOUT

    def __init__(self, settings: Settings, state: StateLog, *, overtaken: Callable[[Partition], None]) -> None:
        super().__init__(settings.bootstrap_servers, state, client_id="mdstream-bars", overtaken=overtaken)
        self._topic = Topics(settings).bars.name
        self._interval_s = settings.checkpoint_interval_s
        self._rules = Rules(settings.bars.intervals, lateness_ns=int(settings.bars.lateness_s * SECOND_NS))
        self._max_parts = MAX_BARS // len(self._rules.intervals)
        self._due = asyncio.Event()
        self.metrics = BarsMetrics(self._rules)

    async def _restored(
        self, starts: Mapping[Partition, int], ledgers: Mapping[Partition, Ledger], claims: Mapping[Partition, int]
    ) -> dict[Partition, _Owned]:
        owned: dict[Partition, _Owned] = {}
        for partition, found in ledgers.items():
            state = bars_state.read(found)
            made = state.progress or Progress(starts[partition], 0, 0)
            owned[partition] = _Owned(partition, claims[partition], state.bars(self._rules), made)
        return owned

    async def _save(self, partitions: list[Partition]) -> None:
        await super()._save(partitions)
        # That its bars are published: otherwise the next owner publishes them again.
        await self.checkpoint(lambda owned: owned.partition in partitions)

    # -- trades

    async def _step(self, owned: _Owned, batch: Batch, records: Sequence[Record]) -> None:
        """Process a batch. Waits only if so much has changed that it has to be written first."""
        owned.bars.step(records)
        owned.batches.append(batch)
        owned.position = batch.next
        owned.heard_s = time.monotonic()
        report = owned.bars.report()
        self.metrics.add(report)
        for error in report.errors:
            log.warning("%s[%d]: no trade, skipped: %s", *owned.partition, error)
        if owned.bars.backlog > self._max_parts:
            await self.checkpoint()
        elif owned.bars.is_due(owned.bars.watermark_ns):
            self._due.set()

    # -- bars

    async def run(self) -> None:
        """Checkpoint and publish at the set interval and as bars close, forever. Raises a failed checkpoint's error."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._due.wait(), self._interval_s)
            self._due.clear()
            await self.checkpoint(self._is_due)
            await asyncio.sleep(PAUSE_S)

    def _is_due(self, owned: _Owned) -> bool:
        now_s = time.monotonic()
        waited = bool(owned.batches) and now_s - owned.written_s >= self._interval_s
        return waited or owned.bars.is_due(owned.until_ns(now_s))

    async def _snapshot(self, owned: _Owned) -> _Snapshot:
        topic, bars = owned.partition.topic, owned.bars
        owned.written_s = time.monotonic()
        collected = bars.collect(owned.until_ns(owned.written_s))
        self.metrics.count(collected)
        changes, owned.changes = owned.changes, {}
        for record in bars_state.changes(topic, owned.claim, self._rules, collected, now_ms()):
            changes[record[0] or b""] = record
        outbox, owned.outbox = [*owned.outbox, *(tally.public() for tally in collected.bars)], []
        batches, owned.batches = owned.batches, []
        progress = Progress(owned.position, bars.latest_ns, bars.closed_ns, outbox)
        records = [*changes.values(), *bars_state.progress(topic, owned.claim, progress, now_ms())]
        return _Snapshot(owned, records, batches, changes, outbox)

    async def _complete(self, snapshot: _Snapshot) -> None:
        partition = snapshot.owned.partition
        await self._state.write(partition, snapshot.owned.claim, snapshot.records)
        records = bars_state.published(snapshot.outbox, self._rules)
        await asyncio.gather(*await self._publisher.send(self._topic, partition.number, records))
