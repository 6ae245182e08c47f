"""One websocket of a feed: connect, subscribe, read, watch; reconnect after a pause, until closed or given up.

    connecting ──> up: frames flow while subscriptions are sent ────> down ──> pause ──> connecting
         └──────── failed ──────────────────────────────────────────>──┘

The pause doubles up to a minute and is reset only after data arrived, so a venue that accepts and then drops us is not
hammered. Each new connection subscribes to all its symbols again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxy, InvalidURI
from websockets.frames import CloseCode

from mdstream.backoff import delays_s
from mdstream.errors import FeedError
from mdstream.ingest.controls import Controls
from mdstream.ingest.freshness import Freshness
from mdstream.ingest.intake import Intake
from mdstream.ingest.watch import Watch
from mdstream.redact import redacted, scrubbed
from mdstream.venues.feed import OTHER, Provider
from topics import MAX_FRAME_BYTES

log = logging.getLogger(__name__)

MAX_SIZE_BYTES = MAX_FRAME_BYTES - 65_536
"""A larger frame would not fit into a record batch with its headers: the connection is closed with 1009."""
OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
PING_INTERVAL_S = 20.0
FRAMES_AHEAD = 64
"""Frames the websocket buffers before it stops reading; one read of the socket may add some thousand."""

T = TypeVar("T")
Changed = Callable[[bool, str | None], None]
"""Called with (True, None) when all subscriptions are sent, and with (False, reason) when the connection is lost."""


class Connection:
    """Reads `symbols` from `url` into `intake`. `data_silence_s`: the shortest silence that is stale (freshness.py)."""

    def __init__(
        self,
        provider: Provider,
        url: str,
        symbols: Sequence[str],
        intake: Intake,
        changed: Changed,
        *,
        max_attempts: int | None = None,
        data_silence_s: float = 0.0,
    ) -> None:
        self.freshness = Freshness(symbols, data_silence_s)
        self._provider, self._url, self._symbols = provider, url, symbols
        self._intake, self._changed, self._max_attempts = intake, changed, max_attempts
        self._counters = intake.counters
        self._closing = asyncio.Event()
        self._socket: ClientConnection | None = None
        self._data_frames = 0
        self._other_frames = 0
        self._blocked = False
        self._verdict: str | None = None

    async def run(self) -> None:
        """Read until `close` is called. Raises FeedError after `max_attempts` connections in a row without data."""
        failures, delays = 0, delays_s(random.Random())
        while not self._closing.is_set():
            data_frames = self._data_frames
            reason = await self._session()
            if self._closing.is_set():
                break
            if self._data_frames > data_frames:
                failures, delays = 0, delays_s(random.Random())
            else:
                failures += 1
            if failures == self._max_attempts:
                raise FeedError(self._provider.name, failures, reason)
            delay_s = next(delays)
            log.warning("%s lost: %s; again in %.1f s", self._provider.name, reason, delay_s)
            await self._unless_closing(asyncio.sleep(delay_s))

    async def close(self) -> None:
        """Close the websocket; frames that have arrived are still read, then `run` returns."""
        self._closing.set()
        if self._socket is not None:
            await self._socket.close()

    async def _session(self) -> str:
        """Run one connection to its end; why it ended."""
        try:
            socket = await self._unless_closing(self._connect())
        except (OSError, TimeoutError, EOFError, InvalidHandshake, InvalidProxy, InvalidURI) as error:
            self._counters.failed_attempts += 1
            what = scrubbed(str(error)) or type(error).__name__  # libraries quote the address, also a proxy's
            return self._down(f"{redacted(self._url)} cannot be reached: {what}")
        if socket is None:
            return "closed"
        self._counters.connections += 1
        self._socket, self._verdict = socket, None
        try:
            reason = await self._use(socket)
        finally:
            self._socket = None
            await socket.close()
        self._counters.disconnections += 1
        return self._down(reason)

    def _down(self, reason: str) -> str:
        self._changed(False, reason)
        return reason

    async def _connect(self) -> ClientConnection:
        return await connect(
            self._url,
            compression=None,
            max_size=MAX_SIZE_BYTES,
            max_queue=FRAMES_AHEAD,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            # Pings keep the path through firewalls open. Missing pongs mean nothing: while the backlog is full nothing
            # is read, not even pongs. Silence decides (watch.py).
            ping_interval=PING_INTERVAL_S,
            ping_timeout=None,
        )

    async def _use(self, socket: ClientConnection) -> str:
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._subscribe(socket)), tasks.create_task(self._guard(socket))]
            try:
                await self._read(socket)
            except ConnectionClosed as closed:
                if closed.sent is not None and closed.sent.code == CloseCode.MESSAGE_TOO_BIG:
                    self._counters.oversized += 1
                return self._verdict or str(closed)
            finally:
                for task in beside:
                    task.cancel()

    async def _subscribe(self, socket: ClientConnection) -> None:
        # The reader reports a connection lost meanwhile: it still has frames to read.
        with suppress(ConnectionClosed):
            for frame in self._provider.subscribe(self._symbols):
                await socket.send(frame)
                await asyncio.sleep(self._provider.subscribe_interval_s)
            self._changed(True, None)

    async def _read(self, socket: ClientConnection) -> NoReturn:
        """The hot loop: it suspends only without a frame, or without room. Ends with ConnectionClosed."""
        recv, route, add_frame, now_ns = socket.recv, self._provider.route, self._intake.add_frame, time.time_ns
        own_key = self._intake.key
        controls = Controls(self._provider, self._counters)
        while True:
            frame = await recv(decode=False)
            received_ns = now_ns()
            found = route(frame)
            full = add_frame(frame, found, received_ns)
            if found.kind is not OTHER:
                self._data_frames += 1
            else:
                self._other_frames += 1
                if found.key == own_key:
                    controls.read(frame)
            if full:
                self._blocked = True
                await self._intake.room()
                self._blocked = False

    async def _guard(self, socket: ClientConnection) -> None:
        keepalive, silence_s = self._provider.keepalive, self._provider.silence_s
        now_s = time.monotonic()
        watch = Watch(now_s=now_s, silence_s=silence_s, keepalive_s=keepalive.interval_s if keepalive else None)
        self.freshness.connected()
        with suppress(ConnectionClosed):
            while self._verdict is None:
                await asyncio.sleep(watch.interval_s)
                passed_s, now_s = time.monotonic() - now_s, time.monotonic()
                frames = self._data_frames + self._other_frames
                verdict = watch.step(now_s=now_s, frames=frames, blocked=self._blocked)
                if verdict == "ping" and keepalive is not None:
                    await socket.send(keepalive.frame)
                elif verdict == "dead":
                    self._counters.silences += 1
                    self._verdict = f"no frame for {silence_s:g} s"
                elif not self._blocked:
                    self._check_freshness(passed_s)
            await socket.close()

    def _check_freshness(self, passed_s: float) -> None:
        freshness, before, mute = self.freshness, self.freshness.stale, self.freshness.mute
        if freshness.step(passed_s, self._counters.routes, self._data_frames):
            self._counters.data_silences += 1
            self._verdict = freshness.describe()
        if freshness.mute - mute:
            log.warning("%s, mute: %s", self._provider.name, freshness.describe_mute())
        if began := freshness.stale - before:
            log.warning("%s, stale: %s", self._provider.name, freshness.describe_channels(began))
        if ended := before - freshness.stale:
            log.warning("%s, no longer stale: %s", self._provider.name, freshness.describe_channels(ended))

    async def _unless_closing(self, coroutine: Coroutine[Any, Any, T]) -> T | None:
        """The coroutine's result; None if `close` is called first, which cancels it."""
        task, closing = asyncio.ensure_future(coroutine), asyncio.ensure_future(self._closing.wait())
        try:
            await asyncio.wait((task, closing), return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            task.cancel()
            closing.cancel()
