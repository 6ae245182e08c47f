"""md.gaps read as a consumer group: each request goes to its venue's desk, its offset is committed when it is done.

    md.gaps ─> request ─┬─> desk of its venue ──────────> done ─┐
                        ├─> a venue left to other processes ────┤
                        └─> not a request ─> md.dead ───────────┴─> commit the end of the longest prefix that is done

Requests end in any order and only the prefix is committed: a crash repeats some, which is harmless, and loses none.
Uncommitted requests are bounded (MAX_HELD): at the bound nothing more is read until the prefix moves.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from contextlib import suppress
from itertools import chain

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, KafkaTimeoutError

from mdstream import kafka
from mdstream.config.cluster import Brokers
from mdstream.kafka.broker import REQUEST_TIMEOUT_MS
from mdstream.kafka.diagnosis import FAILURES
from mdstream.kafka.security import options
from mdstream.records import Partition
from mdstream.repair.desk import Desk, RepairJob
from mdstream.repair.rawlog import RawLog
from mdstream.repairs import HistoryAnswer, RangeAnswer, RepairRequest, Unrecoverable, decode_request
from mdstream.transport.offsets import Offsets
from mdstream.venues.providers import PROVIDERS
from mdstream.venues.spans import MIN_ID
from mdstream.watchdog.rule import PartitionProgress, State

log = logging.getLogger(__name__)

MAX_HELD = 50_000
"""Requests read and not committed, of all partitions together; some 30 MB."""
POLL_MS = 200
POLL_RECORDS = 500
COMMIT_INTERVAL_S = 1.0
COMMIT_LIMIT_S, GOODBYE_LIMIT_S = 5.0, 5.0
SESSION_MS, HEARTBEAT_MS = 6_000, 2_000


class _Share:
    """One assigned partition: its offsets, and its open requests by their bytes."""

    def __init__(self, first_offset: int, epoch: int) -> None:
        self.offsets = Offsets(first_offset, confirmed=None)
        self.epoch = epoch
        self.jobs: dict[bytes, tuple[Desk, RepairJob, list[int]]] = {}


class Requests(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """Reads md.gaps while `run` runs. `only`: the providers whose requests are taken; None for all."""

    def __init__(
        self,
        *,
        bootstrap_servers: Brokers,
        topic: str,
        group: str,
        desks: Mapping[str, Desk],
        raw_log: RawLog,
        only: Collection[str] | None,
    ) -> None:
        self._bootstrap_servers, self._topic, self._group = bootstrap_servers, topic, group
        self._desks, self._raw_log, self._only = desks, raw_log, only
        self._shares: dict[TopicPartition, _Share] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._epoch = 0
        self._settled = False
        self._committed_s = 0.0
        self.refused = 0

    @property
    def held(self) -> int:
        """Requests that were read but are not part of a finished prefix."""
        return sum(share.offsets.unacknowledged for share in self._shares.values())

    @property
    def partitions(self) -> list[int]:
        """The assigned partitions of md.gaps."""
        return sorted(tp.partition for tp in self._shares)

    def state(self) -> State:
        """For the watchdog: how far we have read. A request that stays open for long does not count as a stall."""
        partitions = {
            Partition(tp.topic, tp.partition): PartitionProgress(
                share.epoch, share.offsets.delivered, share.offsets.delivered
            )
            for tp, share in self._shares.items()
        }
        full = f"{self.held} requests are open, so no more are read" if self.held >= MAX_HELD else None
        return State(partitions, settled=self._settled, holding=self._raw_log.problem or full)

    async def run(self) -> None:
        """Read until cancelled, then commit and leave the group. Raises BrokerError if the broker cannot be read."""
        consumer = self._consumer = AIOKafkaConsumer(
            **options(self._bootstrap_servers),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_MS,
            rebalance_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        consumer.subscribe([self._topic], listener=self)
        try:
            await consumer.start()
        except FAILURES as error:
            await consumer.stop()
            raise await kafka.unreachable(self._bootstrap_servers, error) from error
        try:
            await self._read(consumer)
        except KafkaError as error:
            raise kafka.lost(self._bootstrap_servers, error) from error
        finally:
            await self._commit(consumer)
            with suppress(TimeoutError):
                await asyncio.wait_for(consumer.stop(), GOODBYE_LIMIT_S)

    async def _read(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            await self._begin(consumer)
            if self.held >= MAX_HELD:
                consumer.pause(*consumer.assignment())
            elif consumer.paused():
                consumer.resume(*consumer.paused())
            chunk = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            epoch = self._epoch
            for record in chain.from_iterable(chunk.values()):
                if self._epoch != epoch:
                    break  # from a previous assignment: they come again, here or elsewhere
                await self._take(record)
            if time.monotonic() - self._committed_s >= COMMIT_INTERVAL_S:
                self._committed_s = time.monotonic()
                await self._commit(consumer)

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Find where newly assigned partitions begin: that position is committed at once."""
        epoch = self._epoch
        for tp in consumer.assignment() - self._shares.keys() if self._settled else ():
            with suppress(IllegalStateError, KafkaTimeoutError):  # revoked meanwhile, or not known yet: next time
                position = await consumer.position(tp)
                if self._epoch != epoch:  # the position may be from a previous assignment
                    return
                self._shares[tp] = _Share(position, epoch)

    async def _take(self, record: ConsumerRecord[bytes, bytes]) -> None:
        tp = TopicPartition(record.topic, record.partition)
        share = self._shares.setdefault(tp, _Share(record.offset, self._epoch))
        next_offset = record.offset + 1
        share.offsets.deliver(next_offset)
        try:
            request = _read_request(record.value or b"")
        except ValueError as error:
            self.refused += 1
            log.error("%s[%d]@%d is not a request: %s", tp.topic, tp.partition, record.offset, error)  # noqa: TRY400
            await self._raw_log.dead(record, str(error))
            share.offsets.acknowledge(next_offset)
            return
        if not isinstance(request, RepairRequest):  # to `mdstream backfill`
            share.offsets.acknowledge(next_offset)
            return
        desk = self._desks.get(request.provider)
        if desk is not None:
            self._assign_to_desk(share, desk, request, record)
            return
        if self._only is None:
            await self._give_up(request)
        share.offsets.acknowledge(next_offset)

    def _assign_to_desk(
        self, share: _Share, desk: Desk, request: RepairRequest, record: ConsumerRecord[bytes, bytes]
    ) -> None:
        """Pass the request to the desk; a repeat of an open request is done with it."""
        content, next_offset = bytes(record.value or b""), record.offset + 1
        if content in share.jobs:
            share.jobs[content][2].append(next_offset)
            return
        waiting: list[int] = [next_offset]

        def done() -> None:
            del share.jobs[content]
            for each in waiting:
                share.offsets.acknowledge(each)

        # A record without a timestamp counts as waiting since now.
        since_s = record.timestamp / 1000 if record.timestamp > 0 else time.time()
        share.jobs[content] = desk, desk.add(request, waiting_since_s=since_s, done=done), waiting

    async def _give_up(self, request: RepairRequest) -> None:
        r = request
        reason = f"mdstream has no access to the history of {r.provider}"
        loss = Unrecoverable(r.symbol, r.provider, r.id_space, r.first_id, r.last_id, reason)
        log.warning("%s %s %d..%d: %s", r.provider, r.symbol, r.first_id, r.last_id, reason)
        await self._raw_log.lost([loss], now_ns=time.time_ns())

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what is done. A failed commit is left to the next one, or to the next owner of the partition."""
        shares = dict(self._shares)
        pending = {tp: offset for tp, share in shares.items() if (offset := share.offsets.pending()) is not None}
        if not pending:
            return
        try:
            # Without a coordinator aiokafka would try forever.
            async with asyncio.timeout(COMMIT_LIMIT_S):
                await consumer.commit(pending)
        except (CommitFailedError, IllegalStateError) as error:
            log.info("nothing committed, the partitions are being reassigned: %s", error)
        except (KafkaError, TimeoutError) as error:
            log.warning("nothing committed, it is tried again: %r", error)
        else:
            for tp, offset in pending.items():
                shares[tp].offsets.confirm(offset)

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002  all come at once
        """Commit what is done, leave the rest to the next owner. Runs before every assignment, for all partitions."""
        self._settled = False
        if self._consumer is not None:
            await self._commit(self._consumer)
        jobs: dict[Desk, list[RepairJob]] = defaultdict(list)
        for share in self._shares.values():
            for desk, job, _ in share.jobs.values():
                jobs[desk].append(job)
        for desk, dropped in jobs.items():
            desk.drop(dropped)
        self._shares.clear()
        self._epoch += 1

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Partitions begin at their committed offset, else at the oldest request. Some records may already be here."""
        self._settled = True
        numbers = sorted(tp.partition for tp in assigned)
        log.info("%s has partitions %s of %s", self._group, numbers, self._topic)


def _read_request(value: bytes) -> RepairRequest | HistoryAnswer | RangeAnswer:
    """The message. Raises ValueError with what is wrong."""
    try:
        request: RepairRequest | HistoryAnswer | RangeAnswer = decode_request(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"not a repair request: {error}") from None
    if not isinstance(request, RepairRequest):
        return request
    if not MIN_ID <= request.first_id <= request.last_id:
        raise ValueError(f"trades {request.first_id} to {request.last_id} are no range")
    if not request.symbol:
        raise ValueError("a request without a symbol")
    if request.provider not in PROVIDERS:
        raise ValueError(f"no provider {request.provider!r}: there are {', '.join(sorted(PROVIDERS))}")
    return request
