"""Questions to the canonical stream about a symbol of a venue: a record of the raw topic, and its answer on md.gaps."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain
from typing import overload

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from mdstream.config import Settings
from mdstream.errors import BackfillError
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.reading import reader
from mdstream.repair.rawlog import RawLog
from mdstream.repairs import HistoryAnswer, HistoryRequest, RangeAnswer, RangeRequest, decode_request
from topics import Topics

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 60.0
"""How long the stream may take to answer the first question, and how often it is said that it does not."""
MAX_UNCLAIMED = 1_000
"""Answers that nobody here waits for are those of another backfill of the symbol: the newest are kept."""


class Stream:
    """Several questions may be open at once."""

    def __init__(self, raw_log: RawLog, consumer: AIOKafkaConsumer, name: str, symbol: str) -> None:
        self._raw_log, self._consumer, self._name, self._symbol = raw_log, consumer, name, symbol
        self._answers = False
        self._reading = asyncio.Lock()
        self._came: dict[int, HistoryAnswer | RangeAnswer] = {}
        self._open: set[int] = set()
        """The questions that were not answered yet."""

    @overload
    async def ask(self, request: HistoryRequest) -> HistoryAnswer: ...
    @overload
    async def ask(self, request: RangeRequest) -> RangeAnswer: ...
    async def ask(self, request: HistoryRequest | RangeRequest) -> HistoryAnswer | RangeAnswer:
        """Its answer, which covers all that was written to the raw topic before.

        Waits for a core worker that has answered before; raises BackfillError if none has, or it takes no history.
        """
        return await self.answer(await self.write(request))

    async def write(self, request: HistoryRequest | RangeRequest) -> int:
        """Write a question; its offset, by which its answer is known."""
        offset = await self._raw_log.question(request, now_ns=time.time_ns())
        self._open.add(offset)
        return offset

    async def answer(self, offset: int) -> HistoryAnswer | RangeAnswer:
        """The answer to the question at that offset. Raises as `ask`."""
        while True:
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    return await self._answer(offset)
            except TimeoutError:
                problem = f"no answer of the stream for {ANSWER_LIMIT_S:.0f} s: is a core worker running?"
                if not self._answers:
                    raise BackfillError(self._name, self._symbol, problem) from None
                log.warning("%s %s: %s", self._name, self._symbol, problem)

    async def _answer(self, offset: int) -> HistoryAnswer | RangeAnswer:
        while offset not in self._came:
            async with self._reading:
                if offset not in self._came:
                    await self._read()
        self._open.discard(offset)
        return self._came.pop(offset)

    async def _read(self) -> None:
        chunk = await self._consumer.getmany(timeout_ms=200)
        for record in chain.from_iterable(chunk.values()):
            try:
                found = decode_request(record.value or b"")
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # for repair, which refuses it
            if isinstance(found, (HistoryAnswer, RangeAnswer)) and (found.symbol, found.provider) == (
                self._symbol, self._name
            ):  # fmt: skip
                self._answers = True
                self._came[found.request_offset] = found
        for offset in [offset for offset in self._came if offset not in self._open][:-MAX_UNCLAIMED]:
            del self._came[offset]


@asynccontextmanager
async def questions(settings: Settings, raw_log: RawLog, name: str, symbol: str) -> AsyncIterator[Stream]:
    """A Stream that reads the symbol's partition of md.gaps, from its end on."""
    partition = TopicPartition(Topics(settings).gaps.name, Partitioner(settings.partitions)(symbol.encode()))
    async with reader(settings.bootstrap_servers) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        yield Stream(raw_log, consumer, name, symbol)
