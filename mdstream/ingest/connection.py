"""A feed's connection: open a link, hold the dialogue with the venue; again after a pause, until closed or given up.

    connecting ──> up: frames flow while subscriptions are sent ────> down ──> pause ──> connecting
         └──────── failed ──────────────────────────────────────────>──┘
                                                                       └──> given up: too many attempts, or refused

A planned replacement (the venue's age limit, its notice of a restart) makes the new link before it breaks the old one:
both are read until the new one has its subscriptions, and OVERLAP_S longer. What comes twice is left to dedupe.

The pause doubles up to a minute and is reset only after a healthy minute, so a venue that accepts and then drops us is
not hammered. Each new link subscribes to all symbols again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from mdstream.errors import FeedError, HandshakeError, LinkError, RefusedError
from mdstream.ingest.dialogue import Dialogue
from mdstream.ingest.freshness import Freshness
from mdstream.ingest.intake import Intake
from mdstream.ingest.links import new_link
from mdstream.net.backoff import delays_s
from mdstream.net.redact import redacted
from mdstream.venues.feed import Provider
from mdstream.venues.session import Close, Fatal, Session

log = logging.getLogger(__name__)

SHORTEST_LIFETIME = 0.9
"""A connection is replaced at this share of the venue's age limit, or later."""
OVERLAP_S = 2.0
"""After the acknowledgements the snapshots of the new link are still on their way."""
HEALTHY_S = 60.0

Changed = Callable[[bool, str | None], None]
"""Called with (True, None) when all subscriptions are sent, and with (False, reason) when no link is left."""
Reading = asyncio.Task[Close | Fatal]
"""Reads one link; why it ended."""


class Connection:
    """Reads `symbols` from `url` into `intake`. `data_silence_s`: the shortest silence that is stale (freshness.py).

    `settings` holds what a login needs.
    """

    def __init__(
        self,
        provider: Provider,
        url: str,
        symbols: Sequence[str],
        intake: Intake,
        changed: Changed,
        *,
        settings: Mapping[str, str],
        max_attempts: int | None = None,
        data_silence_s: float = 0.0,
    ) -> None:
        self.freshness = Freshness(symbols, data_silence_s, provider.hours)
        self._provider, self._url, self._settings = provider, url, settings
        self.symbols = tuple(symbols)
        self._intake, self._changed, self._max_attempts = intake, changed, max_attempts
        self.up = False
        self.joining = False
        """It was added to a feed that runs, and has not been up yet: the feed is connected without it."""
        self._closing = asyncio.Event()
        self._readings: dict[Reading, Dialogue] = {}
        self._dialogue = self._new_dialogue()

    @property
    def session(self) -> Session:
        """The session of the latest link."""
        return self._dialogue.session

    def _report(self, up: bool, reason: str | None) -> None:
        self.up, self.joining = up, self.joining and not up
        self._changed(up, reason)

    def change(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Change the symbols; a symbol in both is subscribed to again. The others are not disturbed."""
        gone = frozenset(remove)
        self.symbols = (*(symbol for symbol in self.symbols if symbol not in gone), *add)
        self.freshness.change(add=add, remove=remove)
        for dialogue in {self._dialogue, *self._readings.values()}:
            dialogue.change(add=add, remove=remove)

    def _new_dialogue(self) -> Dialogue:
        lifetime = random.uniform(SHORTEST_LIFETIME, 1.0)
        session = Session(self._provider, self.symbols, self._settings, lifetime=lifetime)
        link = new_link(self._url, self._provider.framer, self._provider.library)
        return Dialogue(link, session, self._provider, self._intake, self.freshness, lambda: self._report(True, None))

    async def run(self) -> None:
        """Read until `close` is called.

        Raises FeedError after `max_attempts` links in a row without data, RefusedError if the venue refuses us.
        """
        failures, delays = 0, delays_s(random.Random())
        try:
            while not self._closing.is_set():
                opened_s = time.monotonic()
                end = await self._read_on()
                if self._closing.is_set():
                    break
                self._report(False, end.reason)
                if isinstance(end, Fatal):
                    raise RefusedError(self._provider.name, end.reason)
                failures = 0 if self._dialogue.data_frames else failures + 1
                if failures == self._max_attempts:
                    raise FeedError(self._provider.name, failures, end.reason)
                if self._dialogue.data_frames and time.monotonic() - opened_s >= HEALTHY_S:
                    delays = delays_s(random.Random())
                delay_s = next(delays)
                log.warning("%s lost: %s; again in %.1f s", self._provider.name, end.reason, delay_s)
                await self._pause(delay_s)
                self._dialogue = self._new_dialogue()
        finally:
            for reading in self._readings:
                reading.cancel()
            await asyncio.gather(*self._readings, return_exceptions=True)

    async def close(self) -> None:
        """Close every link; frames that have arrived are still read, then `run` returns."""
        self._closing.set()
        await asyncio.gather(*(dialogue.link.close() for dialogue in self._readings.values()))

    # ------------------------------------------------------------------------------------- links, and their successors

    def _start(self, dialogue: Dialogue) -> Reading:
        reading = asyncio.ensure_future(self._connect_and_read(dialogue))
        self._readings[reading] = dialogue
        reading.add_done_callback(self._readings.pop)
        return reading

    async def _read_on(self) -> Close | Fatal:
        """Read a link, and those that replace it, to the end of the last one; why that ended."""
        reading = self._start(self._dialogue)
        while True:
            await self._either([reading], self._dialogue.replacing.wait())
            if reading.done():
                return reading.result()
            reading = await self._replace(reading)

    async def _replace(self, reading: Reading) -> Reading:
        """Open a successor until one has its subscriptions, then close the link. Returns what is read from now on: the
        successor, or the link itself if it ended first and there is none."""
        delays = delays_s(random.Random())
        while not reading.done():
            dialogue = self._new_dialogue()
            successor = self._start(dialogue)
            await self._either([reading, successor], dialogue.settled.wait())
            await self._either([reading, successor], self._pause(OVERLAP_S))
            if self._closing.is_set():
                await asyncio.wait([reading, successor])  # both links are closed
            elif not successor.done():
                await self._dialogue.link.close()
                await asyncio.wait([reading])
                self._intake.counters.replacements += 1
                if not dialogue.up:
                    self._report(False, reading.result().reason)
                self._dialogue = dialogue
                return successor
            else:
                delay_s, reason = next(delays), successor.result().reason
                log.warning("%s: no new connection yet: %s; again in %.1f s", self._provider.name, reason, delay_s)
                await self._either([reading], self._pause(delay_s))
        return reading

    async def _connect_and_read(self, dialogue: Dialogue) -> Close | Fatal:
        """Run one link to its end; why it ended."""
        counters = self._intake.counters
        try:
            await self._unless_closing(dialogue.link.open())
            if self._closing.is_set():
                return Close("closed")
            counters.connections += 1
            end = await dialogue.run()
        except HandshakeError as refused:
            counters.failed_attempts += 1
            return dialogue.session.refused(refused.status, redacted(self._url))
        except LinkError as error:
            counters.failed_attempts += 1
            return Close(f"{redacted(self._url)} cannot be reached: {error}")
        else:
            counters.disconnections += 1
            return end
        finally:
            await dialogue.link.close()

    async def _pause(self, seconds: float) -> None:
        """Return after `seconds`, or when `close` is called."""
        await self._unless_closing(asyncio.sleep(seconds))

    async def _unless_closing(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Wait for the coroutine; if `close` is called first, cancel it."""
        task = asyncio.ensure_future(coroutine)
        try:
            await self._either([task], self._closing.wait())
            if task.done():
                task.result()
        finally:
            task.cancel()

    @staticmethod
    async def _either(running: Sequence[asyncio.Future[Any]], coroutine: Coroutine[Any, Any, Any]) -> None:
        """Return when one of `running` or `coroutine` is done; the coroutine is cancelled then."""
        task = asyncio.ensure_future(coroutine)
        try:
            await asyncio.wait((*running, task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            task.cancel()
