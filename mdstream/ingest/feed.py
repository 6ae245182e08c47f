"""A provider's feed: its symbols over as many connections as the venue's limits require, with one state for all.

    connected      every connection is up and has sent its subscriptions
    disconnected   at least one is not: its instruments have no data, and failover has to know
    gave_up        one did not reconnect within the allowed attempts, or the venue refuses us: the feed has ended

Each change is a status record in every partition, after the frames that came before it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from functools import partial

from mdstream.errors import FeedError, SettingsError
from mdstream.ingest.connection import Connection
from mdstream.ingest.intake import Intake
from mdstream.ingest.links import new_link
from mdstream.venues import ws_setting
from mdstream.venues.feed import Provider, Route

log = logging.getLogger(__name__)

CONNECT_INTERVAL_S = 0.5
"""Between a feed's first connections: the strictest venue accepts three per second."""


class Feed:
    """Canonical `symbols` of one provider, read into `intake`. `settings`: the venues' addresses and credentials."""

    def __init__(
        self,
        provider: Provider,
        symbols: Sequence[str],
        intake: Intake,
        settings: Mapping[str, str],
        *,
        max_attempts: int | None = None,
        data_silence_s: float = 0.0,
        refused: Sequence[str] = (),
    ) -> None:
        self.provider, self.symbols, self.intake = provider, symbols, intake
        self.refused = refused
        """Why requested symbols are left out."""
        self.state: str | None = None
        self.reason: str | None = None
        url = feed_url(provider, settings)
        shares = [symbols[i : i + provider.max_symbols] for i in range(0, len(symbols), provider.max_symbols)]
        self._up = [False] * len(shares)
        self._closing = False
        self._connections = [
            Connection(
                provider,
                url,
                share,
                intake,
                partial(self._changed, i),
                settings=settings,
                max_attempts=max_attempts,
                data_silence_s=data_silence_s,
            )
            for i, share in enumerate(shares)
        ]

    @property
    def connected(self) -> bool:
        return all(self._up)

    @property
    def problem(self) -> str | None:
        """Why the feed is not ready; None if it is."""
        if not self.connected:
            return self.state or "connecting"
        stale = next((c.freshness for c in self._connections if c.freshness.data_stale), None)
        return None if stale is None else f"stale: {stale.describe()}"

    def stale_channels(self) -> dict[Route, float]:
        """The stale channels, and how many seconds each has been silent."""
        return {r: c.freshness.silences[r].silent_s for c in self._connections for r in sorted(c.freshness.stale)}

    def mute(self) -> list[str]:
        """The subscribed symbols for which nothing at all has arrived."""
        return sorted(symbol for c in self._connections for symbol in c.freshness.mute)

    def rejected(self) -> list[str]:
        """The subscriptions that the venue has rejected, in its words."""
        return sorted(name for c in self._connections for name in c.session.rejected)

    def missing(self) -> list[str]:
        """The subscriptions that the venue has not acknowledged in time, in its words."""
        return sorted(name for c in self._connections for name in c.session.missing)

    def data(self) -> list[tuple[float, float | None]]:
        """For each connection: how long its data has been silent, and the silence that makes it stale."""
        return [(c.freshness.data.silent_s, c.freshness.data_limit_s) for c in self._connections]

    def silent_s(self) -> dict[Route, float | None]:
        """How long each subscribed channel has been silent while connected; None if it never had data."""
        return {
            route: silence.silent_s if silence.data_steps else None
            for connection in self._connections
            for route, silence in connection.freshness.silences.items()
        }

    async def run(self) -> None:
        """Read until `close` is called. Raises FeedError when a connection is given up."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for i, connection in enumerate(self._connections):
                    tasks.create_task(self._run_later(i * CONNECT_INTERVAL_S, connection))
        except* FeedError as group:
            self._up = [False] * len(self._up)
            error = next(e for e in group.exceptions if isinstance(e, FeedError))
            self._set_state("gave_up", error.reason)
            raise error from None
        self._up = [False] * len(self._up)
        self._set_state("disconnected", "the ingestor stops")

    async def close(self) -> None:
        """Close the connections; `run` returns when all received frames and a last status record are queued."""
        self._closing = True
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def add_heartbeat(self) -> None:
        """Queue one heartbeat for every partition."""
        self.intake.add_heartbeat(connected=self.connected, symbols=len(self.symbols), now_ns=time.time_ns())

    async def _run_later(self, delay_s: float, connection: Connection) -> None:
        await asyncio.sleep(delay_s)
        await connection.run()

    def _changed(self, index: int, up: bool, reason: str | None) -> None:
        self._up[index] = up
        if self._closing:
            return
        if self.connected:
            self._set_state("connected", None)
        elif not up and self.state != "disconnected":
            self._set_state("disconnected", reason)

    def _set_state(self, state: str, reason: str | None) -> None:
        self.state, self.reason = state, reason
        log.info("%s %s%s", self.provider.name, state, f": {reason}" if reason else "")
        self.intake.add_status(state=state, reason=reason, now_ns=time.time_ns())


def feed_url(provider: Provider, settings: Mapping[str, str]) -> str:
    """The address to connect to. Raises SettingsError if an override is no address for the venue's link."""
    url = provider.url(settings)
    try:
        new_link(url, provider.framer, provider.library)
    except SettingsError as error:
        raise SettingsError(f"{ws_setting(provider.name)}={error}") from None
    return url
