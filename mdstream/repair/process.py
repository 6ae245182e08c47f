"""The repair process: start in order, run until told to stop, stop in reverse order.

topics there? ──> HTTP port free? ──> producer up? ──> desks, watchdog ──> md.gaps
SIGTERM, SIGINT ──> what is done is committed, the group left ──> desks dropped ──> producer down
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiohttp import ClientSession

from mdstream import kafka
from mdstream.config import Settings
from mdstream.http.endpoint import serve
from mdstream.net.redact import redacted
from mdstream.repair.access import Access
from mdstream.repair.desk import Desk
from mdstream.repair.http import RepairEndpoint
from mdstream.repair.rawlog import RawLog
from mdstream.repair.requests import Requests
from mdstream.repair.venues import HISTORIES
from mdstream.rest.client import Client, new_session
from mdstream.venues import of_library, rest_setting
from mdstream.venues.past import Past
from mdstream.venues.providers import PROVIDERS
from mdstream.watchdog.guard import Watchdog
from mdstream.watchdog.rule import Limits
from topics import Topics

log = logging.getLogger(__name__)

DEFAULT_PORT = 8893
NOTHING_LOST = "nothing is lost: requests that are not done are repeated"


def group_of(prefix: str, only: Collection[str]) -> str:
    """The consumer group. Processes for some providers only form their own group: each group reads all requests."""
    return ".".join([prefix, "repair", *(["-".join(sorted(only))] if only else [])])


async def repair(settings: Settings, *, only: Collection[str], port: int) -> None:
    """Repair until cancelled. `only`: the providers whose requests are taken; empty for all.

    Raises MdstreamError when it cannot start, or the broker cannot be read.
    """
    topics = Topics(settings)
    wanted = [name for name in HISTORIES if not only or name in only]
    async with new_session() as session:
        raw_log = RawLog(settings)
        desks = [new_desk(name, settings, session, raw_log) for name in wanted]
        requests = Requests(
            bootstrap_servers=settings.bootstrap_servers,
            topic=topics.gaps.name,
            group=group_of(settings.topic_prefix, only),
            desks={desk.history.name: desk for desk in desks},
            raw_log=raw_log,
            only=only or None,
        )
        watchdog = Watchdog(
            settings.bootstrap_servers, _limits(settings), requests.state, reads=True, outcome=lambda: NOTHING_LOST
        )
        needed = (topics.gaps, topics.dead, *topics.raw.values())
        await kafka.create_topics(settings.bootstrap_servers, needed, replication=settings.replication)
        async with serve(RepairEndpoint(desks, requests, watchdog).application(), host=settings.http.host, port=port):
            await raw_log.start()
            log.info("http://%s:%d/health shows the state", settings.http.host, port)
            try:
                await _work(requests, desks, watchdog)
            finally:
                await raw_log.stop()


def new_desk(name: str, settings: Settings, session: ClientSession, raw_log: RawLog) -> Desk:
    """The desk of a venue, at the address that the settings give. Raises SettingsError."""
    history = HISTORIES[name]()
    return Desk(history, new_access(history, settings, session), raw_log, patience_s=settings.repair.patience_s)


def new_access(past: Past, settings: Settings, session: ClientSession) -> Access:
    """The way to a venue's past, at the address and with the key that the settings give. Raises SettingsError."""
    name, given = past.name, settings.venue_settings()
    Topics(settings).raw_of(PROVIDERS[name].market)  # refused now, not at the first answer
    if (unsure := past.check_addresses(given)) is not None:
        log.warning("%s: %s", name, unsure)
    base_url = past.base_url(given)
    log.info("%s: %s", name, redacted(base_url))
    if past.client is not None:
        return Access(past, of_library(past.client, name, base_url))
    return Access(past, Client(session, base_url, variable=rest_setting(name), headers=past.headers(given)))


def _limits(settings: Settings) -> Limits:
    limits = settings.watchdog
    return Limits(ready_s=limits.stuck_ready_s, exit_s=limits.stuck_exit_s, start_s=limits.start_allowance_s)


async def _work(requests: Requests, desks: Collection[Desk], watchdog: Watchdog) -> None:
    """Until cancelled, or until one of the tasks fails: none of them ends by itself."""
    reading = asyncio.ensure_future(requests.run())
    helpers = [asyncio.ensure_future(task) for task in (watchdog.pulse(), *(desk.run() for desk in desks))]
    watchdog.start()
    try:
        await asyncio.wait((reading, *helpers), return_when=asyncio.FIRST_COMPLETED)
        for task in (reading, *helpers):
            if task.done():
                task.result()
    finally:
        await watchdog.stop()
        # The reader first: it commits what is done before the desks are cancelled.
        for task in (reading, *helpers):
            task.cancel()
            await asyncio.wait([task])
