"""`mdstream backfill`: the symbols and intervals of one venue, one after the other."""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

from aiohttp import ClientSession
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError

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


class Wanted(NamedTuple):
    """Which history: of a venue `name`, of that time."""

    name: str
    symbols: tuple[str, ...]
    intervals: tuple[str, ...]
    times: Times


def checked(wanted: Wanted) -> Wanted:
    """The same with canonical symbols.

    Raises SymbolError for a symbol that the venue cannot have, SettingsError for an interval that it does not have,
    BackfillError if its history cannot be taken.
    """
    name, of, timed = wanted.name, provider(wanted.name), TIMED.get(wanted.name)
    trades = name in HISTORIES or (timed is not None and timed.trades is not None)
    known = [*([TRADES] if trades else []), *(sorted(timed.intervals, key=unit_ns) if timed else [])]
    for interval in wanted.intervals:
        if interval not in known:
            raise SettingsError(f"--interval {interval}: {name} has no such history; it has {', '.join(known)}")
    symbols = tuple(dict.fromkeys(map(of.canonical, wanted.symbols)))
    for symbol in symbols:
        if TRADES in wanted.intervals and of.sizes_in_contracts and is_linear(symbol):
            raise BackfillError(name, symbol, "what its contracts were worth in the past is not known")
    return wanted._replace(symbols=symbols)


class Backfill:
    """Of one venue. Raises SettingsError if its address or key cannot be used."""

    def __init__(self, settings: Settings, of: Wanted, session: ClientSession, raw_log: RawLog, show: Show) -> None:
        self._settings, self._of, self._raw_log, self._show = settings, of, raw_log, show
        by_id = TRADES in of.intervals and of.name in HISTORIES
        self._desk = new_desk(of.name, settings, session, raw_log) if by_id else None
        self._timed = None if of.intervals == (TRADES,) and by_id else TIMED[of.name](settings.venue_settings())
        self._access = None if self._timed is None else new_access(self._timed, settings, session)

    async def run(self) -> list[Result]:
        """What became of each symbol and interval."""
        return [await self._one(symbol, interval) for interval in self._of.intervals for symbol in self._of.symbols]

    async def fetch(self) -> None:
        """Until cancelled: what `run` asks for by id."""
        if self._desk is None:
            await asyncio.Event().wait()
        else:
            await asyncio.gather(*(self._desk.run() for _ in range(IN_FLIGHT)))

    async def _one(self, symbol: str, interval: str) -> Result:
        """Begun anew where the broker goes away meanwhile, which let us in before: the stream knows what was taken."""
        while True:
            result = Result(symbol, interval)
            try:
                await self._fill(result)
            except BackfillError as error:  # the other symbols' history may be had
                result.refused = error.reason
            except BrokerError as error:
                if isinstance(error.__cause__, TopicAuthorizationFailedError):
                    raise
                log.warning("%s %s: waiting for Kafka: %s", self._of.name, symbol, error)
                await asyncio.sleep(BROKER_EVERY_S)
                continue
            return result

    async def _fill(self, result: Result) -> None:
        async with questions(self._settings, self._raw_log, self._of.name, result.symbol) as stream:
            if self._desk is not None and not result.is_bars:
                await BackfillById(self._desk, stream, result, self._of.times, self._show).run()
            elif self._timed is not None and self._access is not None:
                raw_log, times = self._raw_log, self._of.times
                await BackfillByTime(self._timed, self._access, stream, raw_log, result, times, self._show).run()


async def backfill(settings: Settings, of: Wanted, *, show: Show) -> list[Result]:
    """Backfill the symbols of one venue.

    Raises MdstreamError if the broker cannot be reached, or a setting or symbol cannot be used.
    """
    of = checked(of)
    topics = Topics(settings)
    needed = (topics.gaps, topics.dead, *topics.raw.values())
    async with new_session() as session:
        raw_log = RawLog(settings)
        all_of_it = Backfill(settings, of, session, raw_log, show)
        await kafka.create_topics(settings.bootstrap_servers, needed, replication=settings.replication)
        await raw_log.start()
        working, fetching = asyncio.ensure_future(all_of_it.run()), asyncio.ensure_future(all_of_it.fetch())
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
