"""A feed's connection: open a link, hold the dialogue with the venue; again after a pause, until closed or given up.

    connecting ──> up: frames flow while subscriptions are sent ────> down ──> pause ──> connecting
         └──────── failed ──────────────────────────────────────────>──┘
                                                                       └──> given up: too many attempts, or refused

The pause doubles up to a minute and is reset only after data arrived, so a venue that accepts and then drops us is not
hammered. Each new connection subscribes to all its symbols again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from mdstream.errors import FeedError, HandshakeError, LinkError, RefusedError
from mdstream.ingest.dialogue import Changed, Dialogue
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

T = TypeVar("T")


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
        self.freshness = Freshness(symbols, data_silence_s)
        self._provider, self._url, self._symbols, self._settings = provider, url, symbols, settings
        self._intake, self._changed, self._max_attempts = intake, changed, max_attempts
        self._closing = asyncio.Event()
        self._dialogue = self._new_dialogue()

    @property
    def session(self) -> Session:
        """The session of the latest connection."""
        return self._dialogue.session

    def _new_dialogue(self) -> Dialogue:
        lifetime = random.uniform(SHORTEST_LIFETIME, 1.0)
        session = Session(self._provider, self._symbols, self._settings, lifetime=lifetime)
        link = new_link(self._url, self._provider.framer, self._provider.library)
        return Dialogue(link, session, self._provider.route, self._intake, self._changed, self.freshness)

    async def run(self) -> None:
        """Read until `close` is called.

        Raises FeedError after `max_attempts` connections in a row without data, RefusedError if the venue refuses us.
        """
        failures, delays = 0, delays_s(random.Random())
        while not self._closing.is_set():
            end = await self._connect_and_read(self._dialogue)
            if self._closing.is_set():
                break
            self._changed(False, end.reason)
            if isinstance(end, Fatal):
                raise RefusedError(self._provider.name, end.reason)
            if self._dialogue.data_frames:
                failures, delays = 0, delays_s(random.Random())
            else:
                failures += 1
            if failures == self._max_attempts:
                raise FeedError(self._provider.name, failures, end.reason)
            delay_s = 0.0 if end.because == "age" else next(delays)
            log.warning("%s lost: %s; again in %.1f s", self._provider.name, end.reason, delay_s)
            await self._unless_closing(asyncio.sleep(delay_s))
            self._dialogue = self._new_dialogue()

    async def close(self) -> None:
        """Close the link; frames that have arrived are still read, then `run` returns."""
        self._closing.set()
        await self._dialogue.link.close()

    async def _connect_and_read(self, dialogue: Dialogue) -> Close | Fatal:
        """Run one connection to its end; why it ended."""
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

    async def _unless_closing(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """The coroutine's result; None if `close` is called first, which cancels it."""
        task, closing = asyncio.ensure_future(coroutine), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
