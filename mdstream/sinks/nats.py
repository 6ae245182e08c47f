"""NATS: events on md.events.{type}.{symbol}, each the canonical record's bytes; to live subscribers, or into a stream.

    records ─> work_of ─┬─> trades, quotes, books: batches, whole or not at all ─┐
                        └─> bars, status, ...: one by one within a subject       ├─> the stream
                                     both: without what it holds already ────────┘

`JetStreamSink` stores every event once, and those of a subject in their order, whatever happens to the server, the
connection or this process:

- Numbered events go in batches that the stream takes whole or not at all (ADR-50), one at a time. So nothing overtakes
  a refused or lost batch: no window is ever stored in part.
- A batch names the last message of each of its subjects. If the stream has another one, stored by a worker presumed
  dead or over an abandoned connection, it refuses the batch; the sink then looks up the last messages and leaves out
  events whose `seq` is stored, however long ago. A number that this process recently stored with another content is
  reported: a consumer that drops repeats by number would never see the second event.
- Events without a number go one at a time within a subject. The server drops ids that it knows; beyond its duplicate
  window, the topic offset in the subject's last message shows what is stored. (If the writer of a bar or status was
  down for longer than that window and repeats it at a later offset, only this process's memory detects it.)

`CoreSink` publishes to the current subscribers: a live view. Events that come while there is no connection are skipped
and counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

from nats.aio.client import DEFAULT_MAX_PAYLOAD_SIZE

from mdstream.config import Settings
from mdstream.errors import SinkError
from mdstream.net.backoff import delays_s
from mdstream.net.redact import redacted
from mdstream.sinks import nats_protocol
from mdstream.sinks.base import Chunk, Refusal, Sink
from mdstream.sinks.nats_protocol import Numbered
from mdstream.sinks.nats_stream import (
    BATCH_MESSAGES,
    CHANGED,
    Last,
    RefusedError,
    Stream,
    UnusableError,
)
from mdstream.sinks.nats_wire import (
    ANSWER_LIMIT_S,
    Failure,
    Wire,
    access_of,
    connect,
    is_unauthorized,
    reason_of,
    servers_of,
)
from mdstream.sinks.nats_work import MAX_SUBJECTS, Other, Tails, Work, commands_of, work_of
from mdstream.sinks.numbers import Conflicts
from mdstream.sinks.remembered import Remembered

log = logging.getLogger(__name__)

T = TypeVar("T")

CLIENT = "mdstream-nats"
BATCH_BYTES = 4 << 20
CONCURRENT_REQUESTS = 64
"""Subjects looked up or stored concurrently."""
CHANGES_TAKEN = 5
"""Attempts at one batch while the stream keeps changing; then it counts as failed."""
RECENT_IDS = 50_000
"""Remembered ids of unnumbered events, so that their repeats cost the server nothing."""
MIN_RETRY_S, MAX_RETRY_S = 0.5, 15.0
CHECK_S = 1.0
"""How often an idle connection is checked."""


def sink_of(settings: Settings) -> Sink:
    """The nats role's sink. Raises SettingsError if NATS_URL cannot be used."""
    return JetStreamSink(settings) if settings.nats.jetstream else CoreSink(settings)


class JetStreamSink:
    """Stores events in the stream NATS_STREAM."""

    name = "nats"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers, self._access = servers_of(settings), access_of(settings)
        self._place = ", ".join(map(redacted, self._servers))
        self._tails = Tails()
        self._wire: Wire | None = None
        self._stream: Stream | None = None
        self._last: dict[str, Last] = {}
        self._recent: dict[str, None] = {}  # ids that the stream has, the oldest first
        self._conflicts = Conflicts(self.name)
        self._remembered = Remembered(self._conflicts)
        self.published = self.repeats = self.batches = self.changes = 0

    async def open(self) -> None:
        await self._opened()

    async def close(self) -> None:
        await self._drop()

    def metrics(self) -> dict[str, float]:
        return {
            "published_total": self.published,
            "repeats_total": self.repeats,
            "batches_total": self.batches,
            "changes_total": self.changes,
            "connected": float(self._wire is not None and self._wire.is_connected),
            "seq_conflicts_total": self._conflicts.total,
        }

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        stream = await self._opened()
        work = await asyncio.to_thread(work_of, chunks, self._tails, max_bytes=stream.max_bytes)
        try:
            await self._store(stream, work)
        except (*Failure, RefusedError) as error:
            await self._drop()
            raise self._error(reason_of(error)) from error
        return work.refused

    # -- the connection

    async def _opened(self) -> Stream:
        if self._stream is not None and self._wire is not None and self._wire.is_connected:
            return self._stream
        await self._drop()
        if not self._settings.nats.enabled:
            raise self._error("NATS_ENABLED=false: events wait in Kafka until it is true")
        try:
            self._wire = await connect(self._servers, self._access, name=CLIENT)
            stream = Stream(self._wire, self._settings)
            await stream.open()
        except UnusableError as error:
            await self._drop()
            raise self._error(str(error), retriable=False) from error
        except (*Failure, RefusedError) as error:
            await self._drop()
            raise self._error(reason_of(error), retriable=not is_unauthorized(error)) from error
        self._stream = stream
        return stream

    async def _drop(self) -> None:
        """Drop the connection and the last messages fetched over it: the next one fetches them again."""
        wire, self._wire, self._stream = self._wire, None, None
        self._last.clear()
        if wire is not None:
            await wire.drop()

    def _error(self, reason: str, *, retriable: bool = True) -> SinkError:
        return SinkError(self.name, f"{self._place} (stream {self._settings.nats.stream})", reason, retriable=retriable)

    # -- what is stored

    async def _store(self, stream: Stream, work: Work) -> None:
        for window in nats_protocol.windows(work.numbered, max_messages=BATCH_MESSAGES, max_bytes=BATCH_BYTES):
            await self._store_window(stream, window)
        await self._look_up(stream, work.others)
        await _for_each(work.others.items(), lambda item: self._store_others(stream, *item))

    async def _store_window(self, stream: Stream, window: Sequence[Numbered]) -> None:
        tails = {message.tail for message in window}
        for left in reversed(range(CHANGES_TAKEN)):
            await self._look_up(stream, tails)
            new, expected = self._new(window)
            try:
                last = await stream.store(new, expected) if new else 0
            except RefusedError as error:
                if error.code not in CHANGED or not left:
                    raise
                self.changes += 1
                for tail in tails:
                    self._last.pop(tail, None)
                continue
            for at, message in enumerate(new, last - len(new) + 1):
                self._last[message.tail] = Last(at, message.seq)
            self.published += len(new)
            self.repeats += len(window) - len(new)
            self.batches += 1
            self._remembered.note(window)
            return

    def _new(self, window: Sequence[Numbered]) -> tuple[list[Numbered], dict[str, int]]:
        """The events that the stream lacks, and the number of its last message of each of their subjects."""
        new: list[Numbered] = []
        expected: dict[str, int] = {}
        highest: dict[str, int] = {}
        for message in window:
            tail, seq, _ = message
            known = highest.get(tail)
            if known is None:
                known = self._last[tail].seq
            if seq > known:
                highest[tail] = seq
                expected.setdefault(tail, self._last[tail].at)
                new.append(message)
        return new, expected

    async def _store_others(self, stream: Stream, tail: str, others: Sequence[Other]) -> None:
        before = self._last[tail].place
        for message_id, place, value in others:
            new = False
            if message_id not in self._recent and not place.is_within(before):
                new = await stream.store_one(tail, message_id, place, value)
            self._recent[message_id] = None
            self.published += new
            self.repeats += not new
        while len(self._recent) > RECENT_IDS:
            del self._recent[next(iter(self._recent))]

    async def _look_up(self, stream: Stream, tails: Iterable[str]) -> None:
        """Fetch the last message of each subject, unless it is known."""
        if len(self._last) > MAX_SUBJECTS:
            self._last.clear()

        async def fetch(tail: str) -> None:
            self._last[tail] = await stream.last(tail)

        await _for_each([tail for tail in tails if tail not in self._last], fetch)


async def _for_each(items: Collection[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Run `work` for every item, CONCURRENT_REQUESTS at a time. The first failure cancels the rest, and is raised."""
    left = iter(items)

    async def take() -> None:
        for item in left:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(CONCURRENT_REQUESTS, len(items))):
                group.create_task(take())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None


class CoreSink:
    """Publishes events to current subscribers. Never fails: what cannot be published is counted and skipped."""

    name = "nats"

    def __init__(self, settings: Settings) -> None:
        self._enabled = settings.nats.enabled
        self._servers, self._access = servers_of(settings), access_of(settings)
        self._place = ", ".join(map(redacted, self._servers))
        self._heads = Tails(f"PUB {settings.nats.subject_prefix}.", " ")
        self._wire: Wire | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._logged = False
        self.published = self.missed = 0

    async def open(self) -> None:
        """Never fails: an unreachable server may come up later."""
        if not self._enabled:
            log.warning("NATS_ENABLED=false: events pass, and nothing is published")
            return
        await self._connect()
        self._keeper = asyncio.create_task(self._keep())

    async def close(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
        if self._wire is not None:
            await self._wire.drop()

    def metrics(self) -> dict[str, float]:
        return {
            "published_total": self.published,
            "missed_total": self.missed,
            "connected": float(self._wire is not None),
        }

    async def write(self, chunks: Sequence[Chunk]) -> Sequence[Refusal]:
        wire, count = self._wire, 0
        max_bytes = wire.max_payload if wire is not None else DEFAULT_MAX_PAYLOAD_SIZE
        refused: list[Refusal] = []
        for chunk in chunks:
            commands = commands_of(chunk, self._heads, max_bytes=max_bytes)
            count += commands.messages
            refused += commands.refused
            if wire is not None and not await self._did(wire.send(commands.text)):
                wire = None
        # The answer to a flush confirms everything sent before it.
        if wire is not None and await self._did(wire.flush(timeout=ANSWER_LIMIT_S)):
            self.published += count
        else:
            self.missed += count
        return refused

    async def _did(self, sending: Coroutine[Any, Any, None]) -> bool:
        """Whether it was sent; if not, the connection is dropped."""
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                await sending
        except Failure as error:
            await self._lost(error)
            return False
        return True

    # -- the connection

    async def _keep(self) -> None:
        """Keep a connection open, forever."""
        while True:
            if self._wire is not None and not self._wire.is_connected:
                await self._lost(self._wire.why or ConnectionResetError("it closed the connection"))
            waits = delays_s(random.Random(), min_s=MIN_RETRY_S, max_s=MAX_RETRY_S)
            while self._wire is None:
                await asyncio.sleep(next(waits))
                await self._connect()
            await asyncio.sleep(CHECK_S)

    async def _connect(self) -> None:
        try:
            self._wire = await connect(self._servers, self._access, name=CLIENT)
        except Failure as error:
            self._log_failure(error)
        else:
            log.info("connected to NATS at %s", self._place)
            self._logged = False

    async def _lost(self, error: BaseException) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            self._log_failure(error)
            await wire.drop()

    def _log_failure(self, error: BaseException) -> None:
        """Log the failure once per outage."""
        if not self._logged:
            log.warning(
                "nats cannot write %s: %s; it is tried again, and events pass meanwhile", self._place, reason_of(error)
            )
        self._logged = True
