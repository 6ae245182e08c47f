"""A backfill of one venue: what the stream lacks is asked for, fetched, taken, and checked in the end.

    HistoryRequest ─> raw topic ─> stream ─> HistoryAnswer on md.gaps: what is missing
         │ the first and last id of the time range, by bisection of the venue's history
         v for each part of it
    HistoryRequest that opens it ─> answer ─> pages of the venue to the raw topic, as by repair
         v
    HistoryRequest ─> answer: what is missing still, which has to be what the venue does not have

The state of a backfill is the stream's: what was opened and what was taken. A backfill that is killed and started again
is told what it still has to fetch, behind all that the killed one wrote: both are in one partition of the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import chain

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from mdstream import kafka
from mdstream.backfill.plan import Bisection, parts
from mdstream.config import Settings
from mdstream.errors import BackfillError, BrokerError, FrameError
from mdstream.instruments import is_linear
from mdstream.kafka.publisher import Partitioner
from mdstream.kafka.reading import reader
from mdstream.repair.desk import Desk
from mdstream.repair.process import new_desk
from mdstream.repair.rawlog import RawLog
from mdstream.repairs import HistoryAnswer, HistoryRequest, RepairRequest, decode_request, rest_frame
from mdstream.rest.client import new_session
from mdstream.stream.bounds import MAX_ID
from mdstream.venues.providers import provider
from mdstream.venues.rest import PermanentError
from mdstream.venues.spans import Span, count, merged, within, without
from topics import Topics

log = logging.getLogger(__name__)

ANSWER_LIMIT_S = 60.0
"""How long the stream may take to answer the first question, and how often it is said that it does not."""

BROKER_EVERY_S, BROKER_LIMIT_S = 5.0, 10.0
"""How often the broker is asked for a sign of life, and for how long."""


@dataclass
class Result:
    """What became of one symbol. `lost`: what the venue does not have, and why; `missing`: what it has, but the stream
    did not take; `refused`: why it was not done, or not to the end."""

    symbol: str
    asked: int = 0
    found: int = 0
    lost: list[tuple[Span, str]] = field(default_factory=list)
    missing: list[Span] = field(default_factory=list)
    refused: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the stream has all of it, but for what the venue does not have."""
        return not (self.missing or self.refused)


Show = Callable[[str, int, int], None]
"""Called with the symbol, the ids that are done and all of them."""


class Stream:
    """Questions to the canonical stream about one symbol of a venue."""

    def __init__(self, raw_log: RawLog, consumer: AIOKafkaConsumer, name: str, symbol: str) -> None:
        self._raw_log, self._consumer, self._name, self._symbol = raw_log, consumer, name, symbol
        self._answers = False

    async def ask(self, id_space: str, span: Span, *, opens: bool) -> HistoryAnswer:
        """Its answer, which covers all that was written to the raw topic before.

        Waits for a core worker that has answered before; raises BackfillError if none has.
        """
        request = HistoryRequest(self._symbol, self._name, id_space, *span, opens)
        offset = await self._raw_log.history(request, now_ns=time.time_ns())
        while True:
            try:
                async with asyncio.timeout(ANSWER_LIMIT_S):
                    answer = await self._answer(offset)
            except TimeoutError:
                problem = f"no answer of the stream for {ANSWER_LIMIT_S:.0f} s: is a core worker running?"
                if not self._answers:
                    raise BackfillError(self._name, self._symbol, problem) from None
                log.warning("%s %s: %s", self._name, self._symbol, problem)
            else:
                self._answers = True
                return answer

    async def _answer(self, offset: int) -> HistoryAnswer:
        while True:
            chunk = await self._consumer.getmany(timeout_ms=200)
            for record in chain.from_iterable(chunk.values()):
                try:
                    found = decode_request(record.value or b"")
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    continue  # for repair, which refuses it
                if isinstance(found, HistoryAnswer) and (found.symbol, found.provider, found.request_offset) == (
                    self._symbol, self._name, offset
                ):  # fmt: skip
                    return found


class Backfill:
    """The trades of one symbol made from `begin_ns` on and before `end_ns`."""

    def __init__(self, desk: Desk, stream: Stream, symbol: str, *, begin_ns: int, end_ns: int, show: Show) -> None:
        self._desk, self._history, self._stream, self._show = desk, desk.history, stream, show
        self._times = begin_ns, end_ns
        self._id_space = ""
        self.result = Result(symbol)

    async def run(self) -> None:
        """Fill `result`. Raises BackfillError if the stream takes no history, or the venue refuses to give any."""
        missing = await self._missing()
        wanted = await self._wanted(missing)
        todo = within(missing, wanted)
        total, result = count(todo), self.result
        result.asked, done = total, 0
        if total:
            self._show(result.symbol, 0, total)  # its time begins
        for part in parts(todo, wanted, self._history.most_rows, newest_first=self._history.newest_first):
            for span in await self._asked(part, opens=True):
                await self._fetch(span)
            done += count([part])
            self._show(result.symbol, done, total)
        left = await self._asked(wanted, opens=False) if todo else []
        result.missing = without(left, merged(span for span, _ in result.lost))

    async def _missing(self) -> list[Span]:
        """What the stream lacks, in the id space that it counts the trades in."""
        refusals = []
        for id_space in self._history.endpoints:
            answer = await self._stream.ask(id_space, Span(0, MAX_ID), opens=False)
            if not answer.refused:
                self._id_space = id_space
                return [Span(*span) for span in answer.missing]
            refusals.append(answer.refused)
        raise self._error("; ".join(dict.fromkeys(refusals)))

    async def _asked(self, span: Span, *, opens: bool) -> list[Span]:
        answer = await self._stream.ask(self._id_space, span, opens=opens)
        if answer.refused:
            raise self._error(answer.refused)
        return [Span(*missing) for missing in answer.missing]

    async def _wanted(self, missing: Sequence[Span]) -> Span:
        """The first and the last missing id of the time range; an empty span if there is none."""
        if not missing:
            return Span(0, -1)
        first, end = [await self._id_at(ts_ns, missing[-1].last) for ts_ns in self._times]
        return Span(first, end - 1)

    async def _id_at(self, ts_ns: int, newest: int) -> int:
        bisection = Bisection(ts_ns, newest, newest_first=self._history.newest_first)
        while (found := bisection.found) is None:
            bisection.answered(await self._trade_at(bisection.probe))
        return found

    async def _trade_at(self, number: int) -> tuple[int, int] | None:
        """Id and time of the trade that the venue has at an id, or next to it in the order of its pages."""
        request = RepairRequest(self.result.symbol, self._history.name, self._id_space, number, number, 0)
        page = self._history.ask(request, Span(number, number))
        if isinstance(page, PermanentError):
            raise self._error(page.reason)
        answer = await self._desk.get(page)
        if isinstance(answer, PermanentError):
            raise self._error(answer.reason)
        try:
            trades = self._history.trades(request, rest_frame(page.target, self._id_space, answer.body))
        except (FrameError, msgspec.MsgspecError) as error:
            raise self._error(f"the venue's answer cannot be understood: {error}") from None
        return next(((trade.first_id, trade.ts_exchange or 0) for trade in trades), None)

    async def _fetch(self, span: Span) -> None:
        """The trades of a span to the raw topic, and what the venue does not have of it."""
        done = asyncio.Event()
        request = RepairRequest(self.result.symbol, self._history.name, self._id_space, *span, time.time_ns())
        job = self._desk.add(request, waiting_since_s=time.time(), done=done.set)
        await done.wait()
        self.result.found += job.repair.found
        self.result.lost += [(Span(loss.first_id, loss.last_id), loss.reason) for loss in job.repair.lost()]

    def _error(self, reason: str) -> BackfillError:
        return BackfillError(self._history.name, self.result.symbol, reason)


def check(name: str, symbol: str) -> None:
    """Raises SymbolError for a symbol that the venue cannot have, BackfillError if its history cannot be taken."""
    of = provider(name)
    of.to_venue(symbol)
    if of.sizes_in_contracts and is_linear(symbol):
        raise BackfillError(name, symbol, "what its contracts were worth in the past is not known")


async def backfill(
    settings: Settings, name: str, symbols: Sequence[str], *, begin_ns: int, end_ns: int, show: Show
) -> list[Result]:
    """Backfill the symbols of one venue, one after the other.

    Raises MdstreamError if the broker cannot be reached, or a setting or symbol cannot be used.
    """
    for symbol in symbols:
        check(name, symbol)
    topics = Topics(settings)
    needed = (topics.gaps, topics.dead, *topics.raw.values())
    await kafka.create_topics(settings.bootstrap_servers, needed, replication=settings.replication)
    async with new_session() as session:
        raw_log = RawLog(settings)
        desk = new_desk(name, settings, session, raw_log)
        await raw_log.start()

        async def work() -> list[Result]:
            return [
                await _one(settings, desk, raw_log, symbol, begin_ns=begin_ns, end_ns=end_ns, show=show)
                for symbol in symbols
            ]

        working, fetching = asyncio.ensure_future(work()), asyncio.ensure_future(desk.run())
        watching = asyncio.ensure_future(_watch_broker(settings))
        try:
            await asyncio.wait((working, fetching), return_when=asyncio.FIRST_COMPLETED)
            if fetching.done():
                fetching.result()
            return working.result()
        finally:
            for task in (working, fetching, watching):
                task.cancel()
                await asyncio.wait([task])
            await raw_log.stop()


async def _watch_broker(settings: Settings) -> None:
    """Log when the broker stops answering and when it answers again: reads and writes wait for it, and say nothing."""
    away = False
    while True:
        await asyncio.sleep(BROKER_EVERY_S)
        try:
            async with asyncio.timeout(BROKER_LIMIT_S):
                await kafka.partition_counts(settings.bootstrap_servers)
        except (BrokerError, KafkaError, OSError, TimeoutError) as error:
            if not away:
                log.warning("waiting for Kafka: %s", str(error) or f"no answer for {BROKER_LIMIT_S:.0f} s")
            away = True
        else:
            if away:
                log.info("Kafka answers again")
            away = False


async def _one(
    settings: Settings, desk: Desk, raw_log: RawLog, symbol: str, *, begin_ns: int, end_ns: int, show: Show
) -> Result:
    async with _answers(settings, symbol) as consumer:
        stream = Stream(raw_log, consumer, desk.history.name, symbol)
        one = Backfill(desk, stream, symbol, begin_ns=begin_ns, end_ns=end_ns, show=show)
        try:
            await one.run()
        except BackfillError as error:  # the other symbols' history may be had
            one.result.refused = error.reason
        return one.result


@asynccontextmanager
async def _answers(settings: Settings, symbol: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of the symbol's partition of md.gaps, from its end on."""
    partition = TopicPartition(Topics(settings).gaps.name, Partitioner(settings.partitions)(symbol.encode()))
    async with reader(settings.bootstrap_servers) as consumer:
        consumer.assign([partition])
        await consumer.seek_to_end(partition)
        yield consumer
