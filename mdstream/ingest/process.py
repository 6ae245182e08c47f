"""The ingestor process: start in order, run until a signal, stop in reverse order with nothing left behind.

topics there? ──> HTTP port free? ──> producer up? ──> feeds, heartbeats, watchdog
SIGTERM, SIGINT ──> feeds close, received frames are queued ──> all sent, or in the spool ──> producer down

With records of an earlier run in the spool the feeds start even if Kafka is away: it was away when that run ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError, FeedError, SpoolError
from mdstream.http.endpoint import serve
from mdstream.ingest.bus import Bus
from mdstream.ingest.feed import Feed
from mdstream.ingest.heartbeat import run_heartbeats
from mdstream.ingest.http import IngestEndpoint
from mdstream.ingest.plan import raw_topics
from mdstream.ingest.relist import relist
from mdstream.ingest.resync import resync
from mdstream.ingest.selection import Selection
from mdstream.net.backoff import delays_s
from mdstream.watchdog.guard import Watchdog
from mdstream.watchdog.rule import Limits
from topics import Topics

log = logging.getLogger(__name__)

DEFAULT_PORT = 8891
CLOSE_LIMIT_S = 4.0
FLUSH_LIMIT_S = 3.0
DISCONNECT_LIMIT_S = 2.0
"""Together below the ten seconds that container runtimes grant."""
MAX_CONNECT_DELAY_S = 5.0
REPORT_INTERVAL_S = 60.0


@dataclass(frozen=True)
class Options:
    """How to run. `max_attempts` None: reconnect forever. `redundant`: connections for each symbol."""

    port: int = DEFAULT_PORT
    max_attempts: int | None = None
    redundant: int = 1


def run(selection: Selection, settings: Settings, options: Options) -> None:
    """Ingest until a signal. Raises MdstreamError if it cannot start, or when every feed was given up."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ingest(selection, settings, options))


async def ingest(selection: Selection, settings: Settings, options: Options) -> None:
    """As `run`, on the running loop."""
    wanted = await selection.plan(settings.symbol_groups, settings.venue_addresses())
    for reason in (reason for w in wanted for reason in w.refused):
        log.error("left out: %s", reason)
    wanted = [w for w in wanted if w.symbols]
    bus, venue_settings = Bus(raw_topics(wanted, settings), settings), settings.venue_settings()
    feeds = [
        Feed(
            w.provider,
            w.symbols,
            bus.intake(w),
            venue_settings,
            max_attempts=options.max_attempts,
            data_silence_s=settings.watchdog.data_silence_s,
            redundant=options.redundant,
            refused=w.refused,
        )
        for w in wanted
    ]
    watchdog = _watchdog(bus, settings)
    if not bus.spooler.resumes:
        await _create_topics(bus, settings)
    endpoint = IngestEndpoint(feeds, bus, watchdog, settings.venue_addresses())
    async with serve(endpoint.application(), host=settings.http.host, port=options.port):
        if not bus.spooler.resumes:
            await bus.sender.start()
        log.info("http://%s:%d/health shows the state", settings.http.host, options.port)
        try:
            following = selection.follow(feeds, wanted), relist(feeds, settings.venue_addresses())
            await _work(feeds, bus, watchdog, settings, *following, resync(feeds, settings))
        finally:
            await bus.sender.stop(DISCONNECT_LIMIT_S)


async def _create_topics(bus: Bus, settings: Settings) -> None:
    topics = [*bus.raw.values(), Topics(settings).status]  # the latter is read (resync.py)
    await kafka.create_topics(settings.bootstrap_servers, topics, replication=settings.replication)


async def _send(bus: Bus, settings: Settings) -> None:
    """Send until cancelled; first connect, for as long as it takes. Raises BrokerError if Kafka refuses us."""
    delays = delays_s(random.Random(), max_s=MAX_CONNECT_DELAY_S)
    while not bus.sender.started:
        try:
            await _create_topics(bus, settings)
            await bus.sender.start()
        except BrokerError as error:
            if not error.retriable:
                raise
            log.warning("%s; what comes goes to the spool", error)
            await asyncio.sleep(next(delays))
    await bus.sender.run()


def _watchdog(bus: Bus, settings: Settings) -> Watchdog:
    return Watchdog(
        settings.bootstrap_servers,
        Limits(ready_s=settings.watchdog.stuck_ready_s, exit_s=settings.watchdog.stuck_exit_s),
        bus.sender.state,
        reads=False,
        outcome=bus.spooler.outcome,
    )


async def _work(
    feeds: Sequence[Feed], bus: Bus, watchdog: Watchdog, settings: Settings, *beside: Coroutine[Any, Any, None]
) -> None:
    """Run until a signal, the end of all feeds, or an error; then wind down."""
    running = asyncio.ensure_future(_run_feeds(feeds))
    tasks = (_send(bus, settings), bus.spooler.run(), run_heartbeats(feeds), _report(feeds, bus), watchdog.pulse())
    helpers = [asyncio.ensure_future(task) for task in (*tasks, *beside)]
    watchdog.start()
    signalled = asyncio.ensure_future(_signal())
    try:
        try:
            await asyncio.wait((running, signalled, *helpers), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await watchdog.stop()
        for task in helpers:  # a helper that ended has failed: raise its error
            if task.done():
                task.result()
        await _shut_down(feeds, bus, running)
    finally:
        for task in (running, signalled, *helpers):
            task.cancel()
        await asyncio.gather(running, signalled, *helpers, return_exceptions=True)
    running.result()


async def _shut_down(feeds: Sequence[Feed], bus: Bus, running: asyncio.Future[None]) -> None:
    """What has arrived is sent, or left in the spool. Raises BrokerError if it is lost."""
    log.info("stopping: %d records to send", bus.spooler.waiting)
    with suppress(TimeoutError):
        async with asyncio.timeout(CLOSE_LIMIT_S):
            await asyncio.gather(*(feed.close() for feed in feeds))
            await asyncio.wait([running])
    try:
        async with asyncio.timeout(FLUSH_LIMIT_S):
            await bus.spooler.drained()
    except TimeoutError:
        unsent = f"{bus.spooler.waiting} records that Kafka did not take within {FLUSH_LIMIT_S:.0f} s"
        try:
            await bus.spooler.park()
        except SpoolError as error:
            raise BrokerError(f"stopped with {unsent}, and {error}: they are lost") from None
        log.warning("stopped with %s: the spool has them, the next start sends them", unsent)


async def _run_feeds(feeds: Sequence[Feed]) -> None:
    """Run until all have ended. Raises FeedError if all were given up but those that run dry, preferably one for which
    a restart may help; if only some, these are logged."""
    given_up: list[FeedError] = []
    dry = [feed for feed in feeds if feed.dry is not None]

    async def run(feed: Feed) -> None:
        try:
            await feed.run()
        except FeedError as error:
            log.error("%s", error)  # noqa: TRY400  an intended end, not an error to trace
            given_up.append(error)
        if len(given_up) + len(dry) == len(feeds) > len(dry):
            await asyncio.gather(*(feed.close() for feed in dry))

    async with asyncio.TaskGroup() as tasks:
        for feed in feeds:
            tasks.create_task(run(feed))
    if given_up and len(given_up) + len(dry) == len(feeds):
        raise next((error for error in given_up if error.retriable), given_up[-1])


async def _signal() -> None:
    """Return at the first SIGTERM or SIGINT. A second one ends the process, as by default."""
    loop, seen = asyncio.get_running_loop(), asyncio.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, seen.set)
    await seen.wait()
    for number in signals:
        loop.remove_signal_handler(number)


async def _report(feeds: Sequence[Feed], bus: Bus) -> None:
    """Log a line per minute and feed, for users without /metrics."""
    while True:
        await asyncio.sleep(REPORT_INTERVAL_S)
        for feed in feeds:
            counters = feed.intake.counters
            log.info(
                "%s %s: %d frames, %.0f/s now, %d records queued",
                feed.provider.name,
                feed.state or "connecting",
                counters.total,
                counters.frames_per_second,
                bus.spooler.waiting,
            )
