"""Faust's aiokafka driver with two kinds of topics.

Batched topics: an agent gets one Batch for each chunk of a partition, and their offsets are managed here: where reading
starts, what may be committed, and what the broker has confirmed. Agents that read the same topic each get a Batch of
the same records: a chunk is done when all of them have acknowledged it. Faust's channels of these topics have acks off,
so its own bookkeeping never sees them. All other topics (changelogs, the assignor's) are handled by Faust.

    assigned ─> restore state (hook) ─> explicit seek ─> commit the start ─> chunks ─> Batch ─> agent
                     │ again, while it fails                                             │ acknowledge
    revoked  ─> stop that ─> release (hook: checkpoint) ─> commit ─> forget    Offsets <─┘ ─> commit, confirmed

A chunk is delivered only if it was fetched from where the last one ended, whatever happened in between (a rebalance, a
suspended flow, a fetch under way while the position moved): so nothing is skipped or delivered out of order.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from typing import Any, cast

from aiokafka.errors import ConsumerStoppedError, IllegalStateError, KafkaError
from faust.exceptions import ConsumerNotStarted
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode import Service

from mdstream.errors import MdstreamError
from mdstream.net.backoff import delays_s
from mdstream.records import Partition
from mdstream.transport.assigned import Assigned, Course
from mdstream.transport.batch import Batch, of_all
from mdstream.transport.fetch import Chunk
from mdstream.transport.host import Host
from mdstream.transport.offsets import Offsets
from mdstream.transport.thread import FETCH_TIMEOUT_S, ConsumerThread
from mdstream.transport.versions import require_tested_versions

MIN_RETRY_S, MAX_RETRY_S = 0.2, 5.0

log = logging.getLogger(__name__)


class Consumer(driver.Consumer):
    """Faust's consumer with batched topics beside the ordinary ones."""

    app: Host
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batched_topics: frozenset[str] = frozenset(self.app.batched_topics)
        self._assigned: dict[TP, Assigned] = {}
        self._room = asyncio.Event()
        self._committing = asyncio.Lock()
        self._releasing = asyncio.Lock()
        self.leaving = False
        self.taking: frozenset[TP] = frozenset()
        """The partitions assigned and not positioned yet."""
        self.fetching = 0
        """The number of the current fetch."""
        self.term = 0
        """How often partitions were given up."""
        self._positioning: asyncio.Task[None] | None = None
        self._contesting: asyncio.Future[Any] | None = None

    @property
    def has_room(self) -> bool:
        """Whether an agent took its batch since the last decision on what to fetch. Any thread may read it."""
        return self._room.is_set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- assigned: where to start

    async def take_over(self, term: int) -> bool:
        """Position every assigned partition; False if they are given up meanwhile (`term` is over), or are positioned
        already: two rebalances in a row may ask twice for one assignment, and by then its records flow. Restored again,
        their state would lack what was read since.

        Failures are retried for as long as we own them: the watchdog ends a worker that makes no progress.
        """
        if self.term != term or self._assigned:
            return False
        self._positioning = asyncio.create_task(self._position_all())
        await asyncio.wait([self._positioning])
        if self._positioning.cancelled():
            return False
        self._positioning.result()
        return True

    async def _position_all(self) -> None:
        delays = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
        while True:
            try:
                return await self._position()
            except (KafkaError, MdstreamError, OSError, TimeoutError, IllegalStateError) as error:
                self.log.warning("partitions are not taken over yet, tried again: %r", error)
            await asyncio.sleep(next(delays))

    async def _position(self) -> None:
        """Restore the state of each assigned partition, seek explicitly, and commit the start."""
        assigned = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        if not assigned:
            return
        batched = {tp for tp in assigned if tp.topic in self.batched_topics}
        self.taking = frozenset(batched)
        committed = await self._thread.call_thread(self._thread.committed, assigned)
        earliest = await self.earliest_offsets(*assigned)
        starts = {tp: _start(tp, committed[tp], earliest[tp], self.log) for tp in assigned}
        restored = await self.app.restore({tp: starts[tp] for tp in batched})
        starts |= {tp: _start(tp, at, earliest[tp], self.log) for tp, at in restored.items()}
        await self.seek_wait(starts)
        for tp, start in starts.items():
            if tp in batched:
                self._assigned[tp] = Assigned(start, committed[tp])
            else:
                self._committed_offset[tp] = committed[tp]
        self.taking = frozenset()
        self._room.set()
        await self.commit_batched()

    def overtaken(self, tp: TP) -> None:
        """Another worker has claimed a partition of ours: take all over again, unless the group has reassigned them, or
        they are being given up anyway."""
        ours = tp in self._assigned and self._assigned[tp].open
        if ours and (self._contesting is None or self._contesting.done()):
            self._contesting = self.add_future(self._contest())

    async def _contest(self) -> None:
        term, delays = self.term, delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
        while not await self.commit_batched(anyway=True):  # are we still a member?
            await asyncio.sleep(next(delays))
            if self.term != term:  # no: they were revoked
                return
        if self.term == term and not self.should_stop:
            await self.release()
            if self.term == term + 1:  # else they were revoked meanwhile, and the next assignment positions them
                cast(Any, self.app.tables).recovery.take_over()

    # -- records

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._deliver_next()
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise
        finally:
            self.fetching += 1  # a fetch that is under way in the thread is abandoned

    async def _deliver_next(self) -> None:
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
            return
        self._room.clear()
        active = {
            tp for tp in self._get_active_partitions() if not (tp in self._assigned and self._assigned[tp].waiting)
        }
        if not active:
            await self.wait(self._room.wait(), timeout=FETCH_TIMEOUT_S)
            return
        self.fetching += 1
        fetched = await self._thread.call_thread(self._thread.take, self.fetching, active)
        for tp, found in fetched.items():
            if isinstance(found, Chunk):
                await self._deliver(tp, found)
            else:
                for record in found:
                    await self.wait_first(self.callback(self._to_message(tp, record)), self.suspend_flow.wait())
                    self._read_offset[tp] = record.offset
        await asyncio.sleep(0)

    async def _deliver(self, tp: TP, chunk: Chunk) -> None:
        """Queue a chunk for its agent, if it was fetched from where the last one ended; else seek back to there."""
        assigned = self._assigned.get(tp)
        if assigned is None:
            return  # not ours (any more): the next owner is positioned explicitly
        if not assigned.open or not self.flow_active or not self.app.flow_control.is_active():
            assigned.forget_hole()
            return
        expected, course = assigned.offsets.delivered, assigned.course(chunk.requested, chunk.first)
        if course is not Course.DELIVER:
            await self.seek_wait({tp: expected})
            if course is Course.CHECK_BOUNDS:
                await self._check_bounds(tp, assigned)
            return
        if chunk.first != expected:
            self.log.error("%s: offset %s was expected, the broker continues at %s", tp, expected, chunk.first)
        assigned.offsets.deliver(chunk.next)
        if not chunk.records:
            assigned.offsets.acknowledge(chunk.next)
            return
        assigned.waiting = True
        await self.callback(self._batch_message(tp, assigned, chunk))

    async def _check_bounds(self, tp: TP, assigned: Assigned) -> None:
        """Go to the earliest offset if the log does not hold the expected one: deleted, or the topic was recreated."""
        expected = assigned.offsets.delivered
        try:
            earliest, end = (await self.earliest_offsets(tp))[tp], (await self.highwaters(tp))[tp]
        except KafkaError as error:
            self.log.warning("%s: offset %s was expected, the log's bounds are unknown: %r", tp, expected, error)
            return
        if self._assigned.get(tp) is assigned and not earliest <= expected <= end:
            self.log.error("%s: offset %s was expected, the log holds %s to %s", tp, expected, earliest, end)
            self._assigned[tp] = Assigned(earliest, None)
            await self.seek_wait({tp: earliest})

    def _batch_message(self, tp: TP, assigned: Assigned, chunk: Chunk) -> ConsumerMessage:
        untaken = agents = self.app.batched_topics[tp.topic]

        def on_take() -> bool:
            nonlocal untaken
            untaken -= 1
            if not untaken:
                assigned.waiting = False
                self._room.set()
                self._thread.wake(tp)
            return assigned.open

        batches = [
            Batch(
                Partition(tp.topic, tp.partition),
                chunk.records,
                first=chunk.first,
                next_offset=chunk.next,
                on_take=on_take,
                acknowledge=acknowledge,
            )
            for acknowledge in of_all(agents, assigned.offsets.acknowledge)
        ]
        return ConsumerMessage(
            topic=tp.topic,
            partition=tp.partition,
            offset=chunk.next - 1,
            timestamp=0.0,
            timestamp_type=0,
            headers=None,
            key=None,
            value=cast(bytes, batches),  # BatchSchema gives one to each agent
            checksum=None,
            serialized_key_size=0,
            serialized_value_size=0,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    # -- committing

    @Service.task
    async def _commit_batched_handler(self) -> None:
        async for _ in self.itertimer(self.commit_interval, name="commit batched"):
            await self.commit_batched()

    async def commit_batched(self, *, anyway: bool = False) -> bool:
        """Commit what was acknowledged; False if the broker did not confirm it.

        Nothing is sent if there is nothing new, except with `anyway`: then the committable offsets are sent again,
        which proves that we are a member of the group.
        """
        async with self._committing:
            offsets: dict[TP, int] = {}
            for tp, assigned in self._assigned.items():
                pending = assigned.offsets.committable if anyway else assigned.offsets.pending()
                if pending is not None:
                    offsets[tp] = pending
            if not offsets:
                return not anyway
            if not await self._thread.call_thread(self._thread.commit_confirmed, offsets):
                return False
            for tp, offset in offsets.items():
                if tp in self._assigned:
                    self._assigned[tp].offsets.confirm(offset)
            return True

    def unpositioned(self) -> set[TP]:
        """The batched partitions that the group has assigned to us and that we do not read, for the watchdog."""
        try:
            return {tp for tp in self.assignment() if tp.topic in self.batched_topics and tp not in self._assigned}
        except ConsumerNotStarted:
            return set()

    def positions(self) -> dict[TP, Offsets]:
        """The offsets of each batched partition that we own, for reading."""
        return {tp: assigned.offsets for tp, assigned in self._assigned.items()}

    # -- revoked

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        await self.release()
        await super().on_partitions_revoked(revoked)

    async def release(self) -> None:
        """Stop delivering, have the agents save what they took, commit that, and forget the partitions."""
        self.term += 1
        async with self._releasing:  # a stop meets a rebalance
            await self._release_all()

    async def _release_all(self) -> None:
        if self._positioning is not None and not self._positioning.done():
            self._positioning.cancel()
            await asyncio.wait([self._positioning])
        owned = self.taking | set(self._assigned)
        if not owned:
            return
        self.stop_flow()
        for assigned in self._assigned.values():
            assigned.open = False
        # Within the time that the group waits for us: after it nothing is lost, but work is done twice.
        limit_s = self.app.conf.broker_rebalance_timeout / 2
        try:
            await asyncio.wait_for(self._release(owned), limit_s)
        except TimeoutError:
            self.log.warning(
                "partitions were taken before their state was safe (%.0f s): it will be worked out again", limit_s
            )
        self._assigned.clear()
        self.taking = frozenset()

    async def leave(self) -> None:
        """Leave the group for good. If the broker is away, the session timeout ends our membership."""
        self.leaving = True
        leaving = asyncio.ensure_future(self._thread.call_thread(self._thread.leave))
        await asyncio.wait([leaving])
        if not leaving.cancelled() and (error := leaving.exception()) is not None:
            self.log.warning("the group does not know that this worker leaves: %r", error)

    async def _release(self, owned: Collection[TP]) -> None:
        await self.app.release(owned)
        await self.commit_batched()

    def verify_event_path(self, now: float, tp: TP) -> None:
        if tp.topic not in self.batched_topics:  # Faust watches only its own acknowledgements
            super().verify_event_path(now, tp)


class Transport(driver.Transport):
    """The transport of mdstream's apps. Raises UnsupportedVersionError with untested versions of its base."""

    Consumer = Consumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        require_tested_versions()
        super().__init__(*args, **kwargs)


def _start(tp: TP, wanted: int | None, earliest: int, log: Any) -> int:
    """The offset to read from: `wanted`; the earliest, if `wanted` is None or no longer in the log."""
    if wanted is None:
        return earliest
    if wanted < earliest:
        log.error("%s: records %s to %s were deleted before they were processed", tp, wanted, earliest - 1)
    return max(wanted, earliest)
