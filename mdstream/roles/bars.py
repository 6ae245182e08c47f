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
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

from mdstream.bars import state as bars_state
from mdstream.bars.bars import Bars
from mdstream.bars.rules import SECOND_NS, Rules
from mdstream.bars.state import Progress
from mdstream.config import Settings
from mdstream.errors import OvertakenError
from mdstream.kafka.publisher import Publisher
from mdstream.records import Partition, ProducerRecord
from mdstream.roles.bars_metrics import BarsMetrics
from mdstream.roles.state_log import StateLog, now_ms
from mdstream.roles.tasks import all_of
from mdstream.stream.ledger import Ledger
from mdstream.stream.output import Out
from mdstream.transport.batch import Batch
from topics import Topics

log = logging.getLogger(__name__)

QUIET_S = 5.0
"""After so long without a trade, a partition's event time follows the clock, so that its last bars close."""
PAUSE_S = 0.25
"""Least time between two checks for due bars: a worker that is catching up closes bars all the time."""
MAX_BARS = 12_000
"""About how many changed bars are collected at once: with those of one batch, half of what a checkpoint may hold."""


class _Owned:
    """One partition of md.trades while it is ours."""

    def __init__(self, bars: Bars, claim: int, position: int) -> None:
        self.bars, self.claim, self.position = bars, claim, position
        self.batches: list[Batch] = []  # processed, not yet covered by a checkpoint
        self.changes: dict[bytes, ProducerRecord] = {}  # collected, not yet in a checkpoint, by key
        self.outbox: list[bytes] = []  # numbered, not yet published
        self.heard_s = self.written_s = time.monotonic()

    def until_ns(self, now_s: float) -> int:
        """The watermark: by the trades, or by the clock if none have arrived for a while."""
        quiet_s = now_s - self.heard_s - QUIET_S
        return self.bars.watermark_ns + max(0, int(quiet_s * SECOND_NS))


class _Turn(NamedTuple):
    """A checkpoint that is not written yet, with its batches and output."""

    partition: Partition
    owned: _Owned
    batches: list[Batch]
    changes: dict[bytes, ProducerRecord]
    progress: Progress

    def records(self, now_ms: int) -> Out:
        end = bars_state.progress(self.partition.topic, self.owned.claim, self.progress, now_ms)
        return [*self.changes.values(), *end]

    def put_back(self) -> None:
        """Leave it to the next turn."""
        self.owned.batches[:0] = self.batches
        self.owned.outbox[:0] = self.progress.outbox
        self.owned.changes = self.changes | self.owned.changes


class BarsRole:
    """Restores, processes, checkpoints and releases partitions of md.trades."""

    def __init__(self, settings: Settings, state: StateLog, *, overtaken: Callable[[Partition], None]) -> None:
        self._topic = Topics(settings).bars.name
        self._state, self._overtaken = state, overtaken
        self._interval_s = settings.checkpoint_interval_s
        self._rules = Rules(settings.bars.intervals, lateness_ns=int(settings.bars.lateness_s * SECOND_NS))
        self._most_parts = MAX_BARS // len(self._rules.intervals)
        self._publisher = Publisher(settings.bootstrap_servers, client_id="mdstream-bars")
        self._owned: dict[Partition, _Owned] = {}
        self._turning = asyncio.Lock()
        self._due = asyncio.Event()
        self.metrics = BarsMetrics(self._rules)

    async def start(self) -> None:
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()

    # -- partitions

    async def restore(self, starts: Mapping[Partition, int]) -> Mapping[Partition, int]:
        """Take over partitions, given with the offset to start at without a state; the offset to read each from."""
        ledgers = {partition: bars_state.opened(partition.topic) for partition in starts}
        claims = await self._state.take_over(ledgers)
        owned: dict[Partition, _Owned] = {}
        for partition, found in ledgers.items():
            state = bars_state.read(found)
            made = state.progress = state.progress or Progress(starts[partition], 0, 0)
            owned[partition] = _Owned(state.bars(self._rules), claims[partition], made.position)
            owned[partition].outbox = made.outbox
        await asyncio.gather(*(self._open(partition, owned[partition], found) for partition, found in ledgers.items()))
        self._owned |= owned
        return {partition: each.position for partition, each in owned.items()}

    async def _open(self, partition: Partition, owned: _Owned, found: Ledger) -> None:
        """Write the first checkpoint under a claim, then publish what the last owner may not have published."""
        turn = self._turn(partition, owned)
        records = [*found.repairs(owned.claim, now_ms()), *turn.records(now_ms())]
        await self._state.write(partition, owned.claim, records)
        await self._publish(partition.number, turn.progress.outbox)

    async def release(self, partitions: Iterable[Partition]) -> None:
        """Checkpoint and publish what was processed, and give up the partitions."""
        partitions = list(partitions)
        try:
            await self.checkpoint()
            await self._leave_nothing(partitions)
        finally:
            self._state.let_go(partitions)
            for partition in partitions:
                self._owned.pop(partition, None)

    async def _leave_nothing(self, partitions: Iterable[Partition]) -> None:
        """Record that everything is published, so that the next owner does not publish it again."""
        async with self._turning:
            ours = [(p, self._owned[p]) for p in partitions if p in self._owned]
            turns = [self._turn(partition, owned) for partition, owned in ours]
            await all_of(self._complete(turn) for turn in turns)

    # -- trades

    async def process(self, batch: Batch) -> None:
        """Process a batch. Waits only if so much has changed that it has to be written first."""
        records = batch.take()
        owned = self._owned.get(batch.partition)
        if owned is None or not records:
            return
        owned.bars.step(records)
        owned.batches.append(batch)
        owned.position = batch.next
        owned.heard_s = time.monotonic()
        self._report(batch.partition, owned.bars)
        if owned.bars.backlog > self._most_parts:
            await self.checkpoint()
        elif owned.bars.is_due(owned.bars.watermark_ns):
            self._due.set()

    def _report(self, partition: Partition, bars: Bars) -> None:
        self.metrics.take(bars)
        for error in bars.errors:
            log.warning("%s[%d]: no trade, passed over: %s", *partition, error)
        bars.errors.clear()

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

    async def checkpoint(self, wanted: Callable[[_Owned], bool] = lambda owned: bool(owned.batches)) -> None:
        """Checkpoint what was processed so far, publish the bars it closed and acknowledge it. A partition that another
        worker has claimed is dropped and reported."""
        async with self._turning:
            turns = [self._turn(partition, owned) for partition, owned in self._owned.items() if wanted(owned)]
            await all_of(self._complete(turn) for turn in turns)

    def _turn(self, partition: Partition, owned: _Owned) -> _Turn:
        """Everything that changed since the last one, as of between two batches."""
        now_s = owned.written_s = time.monotonic()
        bars = owned.bars
        collected = bars.collect(owned.until_ns(now_s))
        self.metrics.count(collected)
        changes, owned.changes = owned.changes, {}
        for record in bars_state.changes(partition.topic, owned.claim, self._rules, collected, now_ms()):
            changes[record[0] or b""] = record
        outbox, owned.outbox = [*owned.outbox, *(tally.public() for tally in collected.bars)], []
        batches, owned.batches = owned.batches, []
        progress = Progress(owned.position, bars.latest_ns, bars.closed_ns, outbox)
        return _Turn(partition, owned, batches, changes, progress)

    async def _complete(self, turn: _Turn) -> None:
        partition, owned = turn.partition, turn.owned
        done = False
        try:
            await self._state.write(partition, owned.claim, turn.records(now_ms()))
            await self._publish(partition.number, turn.progress.outbox)
            done = True
        except OvertakenError as error:
            log.warning("%s: taking it over again if it is still assigned", error)
            if self._owned.get(partition) is owned:
                del self._owned[partition]
                self._overtaken(partition)
        finally:
            if not done:  # whatever the reason: the next checkpoint has to include these changes
                turn.put_back()
        for batch in turn.batches if done else ():
            batch.acknowledge()

    async def _publish(self, number: int, outbox: list[bytes]) -> None:
        records = bars_state.published(outbox, self._rules)
        await asyncio.gather(*await self._publisher.send(self._topic, number, records))
