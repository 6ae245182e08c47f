"""`mdstream backfill`: the symbols and intervals of one venue, one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from aiohttp import ClientSession
from aiokafka.errors import KafkaError

from mdstream import kafka
from mdstream.backfill.ahead import IN_FLIGHT
from mdstream.backfill.ids import BackfillById
from mdstream.backfill.result import Result, Show
from mdstream.backfill.stream import questions
from mdstream.backfill.times import BackfillByTime
from mdstream.backfill.windows import Times, unit_ns
from mdstream.config import Settings
from mdstream.errors import BackfillError, BrokerError, SettingsError
from mdstream.instruments import is_linear
from mdstream.repair.process import new_access, new_desk
from mdstream.repair.rawlog import RawLog
from mdstream.repair.venues import HISTORIES, TIMED
from mdstream.rest.client import new_session
from mdstream.venues.providers import provider
from mdstream.venues.timed import TRADES
from topics import Topics

log = logging.getLogger(__name__)

BROKER_EVERY_S, BROKER_LIMIT_S = 5.0, 10.0
"""How often the broker is asked for a sign of life, and for how long."""


def check(name: str, symbols: Sequence[str], intervals: Sequence[str]) -> None:
    """Raises SymbolError for a symbol that the venue cannot have, SettingsError for an interval that it does not have,
    BackfillError if its history cannot be taken."""
    of, timed = provider(name), TIMED.get(name)
    trades = name in HISTORIES or (timed is not None and timed.trades is not None)
    known = [*([TRADES] if trades else []), *(sorted(timed.intervals, key=unit_ns) if timed else [])]
    for interval in intervals:
        if interval not in known:
            raise SettingsError(f"--interval {interval}: {name} has no such history; it has {', '.join(known)}")
    for symbol in symbols:
        of.to_venue(symbol)
        if of.sizes_in_contracts and is_linear(symbol):
            raise BackfillError(name, symbol, "what its contracts were worth in the past is not known")


class Backfill:
    """Of one venue. Raises SettingsError if its address or key cannot be used."""

    def __init__(
        self, settings: Settings, name: str, times: Times, session: ClientSession, raw_log: RawLog, show: Show
    ) -> None:
        self._settings, self._name, self._times = settings, name, times
        self._raw_log, self._show = raw_log, show
        self._timed = TIMED[name]() if name in TIMED else None
        self._access = None if self._timed is None else new_access(self._timed, settings, session)
        self._desk = new_desk(name, settings, session, raw_log) if name in HISTORIES else None

    async def run(self, symbols: Sequence[str], intervals: Sequence[str]) -> list[Result]:
        """What became of each."""
        return [await self._one(Result(symbol, interval)) for interval in intervals for symbol in symbols]

    async def fetch(self) -> None:
        """Until cancelled: what `run` asks for by id."""
        if self._desk is None:
            await asyncio.Event().wait()
        else:
            await asyncio.gather(*(self._desk.run() for _ in range(IN_FLIGHT)))

    async def _one(self, result: Result) -> Result:
        async with questions(self._settings, self._raw_log, self._name, result.symbol) as stream:
            try:
                if self._desk is not None and not result.is_bars:
                    await BackfillById(self._desk, stream, result, self._times, self._show).run()
                elif self._timed is not None and self._access is not None:
                    raw_log, times = self._raw_log, self._times
                    await BackfillByTime(self._timed, self._access, stream, raw_log, result, times, self._show).run()
            except BackfillError as error:  # the other symbols' history may be had
                result.refused = error.reason
            return result


async def backfill(
    settings: Settings, name: str, symbols: Sequence[str], intervals: Sequence[str], times: Times, *, show: Show
) -> list[Result]:
    """Backfill the symbols of one venue.

    Raises MdstreamError if the broker cannot be reached, or a setting or symbol cannot be used.
    """
    check(name, symbols, intervals)
    topics = Topics(settings)
    needed = (topics.gaps, topics.dead, *topics.raw.values())
    async with new_session() as session:
        raw_log = RawLog(settings)
        of = Backfill(settings, name, times, session, raw_log, show)
        await kafka.create_topics(settings.bootstrap_servers, needed, replication=settings.replication)
        await raw_log.start()
        working, fetching = asyncio.ensure_future(of.run(symbols, intervals)), asyncio.ensure_future(of.fetch())
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
