"""A provider's feed: its symbols over as many connections as the venue's limits require, with one state for all.

    connected      every symbol has a connection that is up and has sent its subscriptions
    disconnected   some have none: these instruments have no data, and failover has to know
    gave_up        one did not reconnect within the allowed attempts, or the venue refuses us: the feed has ended

Without the settings of its login a feed runs dry: it makes no connection, has heartbeats only, and is disconnected. A
redundant feed has several lines: connections for the same symbols, whose frames the canonical stream merges. Each
change is a status record in every partition, after the frames that came before it.
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
    """Canonical `symbols` of one provider, read into `intake` by `redundant` lines.

    `settings`: the venues' addresses and credentials.
    """

    def __init__(
        self,
        provider: Provider,
        symbols: Sequence[str],
        intake: Intake,
        settings: Mapping[str, str],
        *,
        max_attempts: int | None = None,
        data_silence_s: float = 0.0,
        redundant: int = 1,
        refused: Sequence[str] = (),
    ) -> None:
        self.provider, self.symbols, self.intake = provider, tuple(symbols), intake
        self.refused = refused
        """Why requested symbols are left out."""
        self.state: str | None = None
        self.reason: str | None = None
        self.dry = provider.dry(settings)
        """Why it runs dry, and what to set; None if it does not."""
        self._connect = partial(
            Connection,
            provider,
            feed_url(provider, settings),
            intake=intake,
            changed=self._changed,
            settings=settings,
            max_attempts=max_attempts,
            data_silence_s=data_silence_s,
        )
        self._redundant = redundant
        self._shares: list[list[Connection]] = []
        """The lines of each share of the symbols."""
        self._closing = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._add_shares([] if self.dry else symbols)

    @property
    def _connections(self) -> list[Connection]:
        """The first line of each share, then the second."""
        return [connection for line in zip(*self._shares, strict=True) for connection in line]

    @property
    def connected(self) -> bool:
        return self.dry is None and all(any(line.up or line.joining for line in share) for share in self._shares)

    @property
    def closed(self) -> bool:
        """Whether it is connected and the markets of all its symbols are closed: no data are due."""
        return self.connected and bool(self._shares) and all(c.freshness.closed for c in self._connections)

    @property
    def problem(self) -> str | None:
        """Why the feed is not ready; None if it is."""
        if self.dry is not None:
            return f"runs dry: {self.dry}"
        if not self.connected:
            return self.state or "connecting"
        stale = next((c.freshness for c in self._connections if c.freshness.data_stale), None)
        return None if stale is None else f"stale: {stale.describe()}"

    def stale_channels(self) -> dict[Route, float]:
        """The stale channels, and how many seconds each has been silent."""
        return {r: c.freshness.silences[r].silent_s for c in self._connections for r in sorted(c.freshness.stale)}

    def mute(self) -> list[str]:
        """The subscribed symbols for which nothing at all has arrived."""
        return sorted({symbol for c in self._connections for symbol in c.freshness.mute})

    def rejected(self) -> list[str]:
        """The subscriptions that the venue has rejected, in its words."""
        return sorted({name for c in self._connections for name in c.session.rejected})

    def missing(self) -> list[str]:
        """The subscriptions that the venue has not acknowledged in time, in its words."""
        return sorted({name for c in self._connections for name in c.session.missing})

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
        if self.dry is not None:
            self._set_state("disconnected", self.problem)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                self._tasks.create_task(self._closing.wait())  # without symbols there may be no connection
                for i, connection in enumerate(self._connections):
                    self._tasks.create_task(self._run_later(i * CONNECT_INTERVAL_S, connection))
        except* FeedError as group:
            error = next(e for e in group.exceptions if isinstance(e, FeedError))
            self._end("gave_up", error.reason)
            raise error from None
        self._end("disconnected", "the ingestor stops")

    def _end(self, state: str, reason: str) -> None:
        self._tasks = None
        for connection in self._connections:
            connection.up = False
        self._set_state(state, reason)

    async def close(self) -> None:
        """Close the connections; `run` returns when all received frames and a last status record are queued."""
        self._closing.set()
        await asyncio.gather(*(connection.close() for connection in self._connections))

    def add_heartbeat(self) -> None:
        """Queue one heartbeat for every partition."""
        symbols, now_ns = len(self.symbols), time.time_ns()
        self.intake.add_heartbeat(connected=self.connected, closed=self.closed, symbols=symbols, now_ns=now_ns)

    # -- symbols that change

    async def change(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Add canonical symbols and remove others, without disturbing the rest. One in both is subscribed to again.

        New ones go to the connections that have room, then to further ones.
        """
        known, added = frozenset(self.symbols), dict.fromkeys(add)
        again = {symbol for symbol in remove if symbol in known and symbol in added}
        gone = {symbol for symbol in remove if symbol in known} - again
        new = [symbol for symbol in added if symbol not in known]
        self.symbols = (*(symbol for symbol in self.symbols if symbol not in gone), *new)
        if self.dry is not None or self.state == "gave_up":
            return
        for share in self._shares:
            symbols = share[0].symbols
            ended, renewed = [s for s in symbols if s in gone], [s for s in symbols if s in again]
            room = self.provider.max_symbols - len(symbols) + len(ended)
            fit, new = new[:room], new[room:]
            for line in share:
                line.change(add=[*fit, *renewed], remove=[*ended, *renewed])
        empty = [share for share in self._shares if not share[0].symbols]
        self._shares = [share for share in self._shares if share[0].symbols]
        for i, connection in enumerate(self._add_shares(new)):
            if self._tasks is not None:  # else `run` will start it
                connection.joining = True
                self._tasks.create_task(self._run_later(i * CONNECT_INTERVAL_S, connection))
        await asyncio.gather(*(connection.close() for share in empty for connection in share))
        self._changed(True, None)

    def _add_shares(self, symbols: Sequence[str]) -> list[Connection]:
        size = self.provider.max_symbols
        added = [
            [self._connect(symbols[i : i + size]) for _ in range(self._redundant)] for i in range(0, len(symbols), size)
        ]
        self._shares += added
        return [connection for share in added for connection in share]

    async def _run_later(self, delay_s: float, connection: Connection) -> None:
        await asyncio.sleep(delay_s)
        await connection.run()

    def _changed(self, up: bool, reason: str | None) -> None:
        if self._closing.is_set():
            return
        if self.connected:
            if self.state != "connected":
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
