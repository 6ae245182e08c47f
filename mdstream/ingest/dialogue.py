"""One open link, from its first frame to its last, in three concurrent tasks.

    read               link ──> route ──> intake        the hot loop; frames of no instrument go to the session
    converse           session ──> link                 requests, keepalive; it closes the link when the session says so
    watch_freshness    closes the link when its data has stopped

The session (mdstream/venues/session.py) decides, the link moves bytes; neither knows the other.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

from mdstream.errors import LinkError, OversizedError
from mdstream.ingest.contracts import Encode
from mdstream.ingest.freshness import Freshness
from mdstream.ingest.intake import Intake
from mdstream.ingest.links.link import Link, Receive
from mdstream.records import WS, RawEncoder
from mdstream.venues.feed import OTHER, Provider, Route
from mdstream.venues.session import Action, Close, Fatal, Probe, Replace, Report, Send, Session, Subscribed, Wait

log = logging.getLogger(__name__)

FRESHNESS_INTERVAL_S = 1.0
LINES_PER_CONNECTION = 50


class Dialogue:
    """Performs `session` on `link` and takes its frames into `intake`, under the key and kind that `provider` finds.

    It calls `subscribed` when all subscriptions are sent. `settled` is set when they are answered, `replacing` when
    another link has to take over.
    """

    def __init__(
        self,
        link: Link,
        session: Session,
        provider: Provider,
        intake: Intake,
        freshness: Freshness,
        subscribed: Callable[[], None],
    ) -> None:
        self.link, self.session = link, session
        self._provider, self._intake, self._freshness, self._subscribed = provider, intake, freshness, subscribed
        self._counters = intake.counters
        self._answers: list[Action] = []
        self._answered = asyncio.Event()
        self._end: Close | Fatal | None = None
        self._lines = 0
        self.up = False
        self.settled, self.replacing = asyncio.Event(), asyncio.Event()
        self.data_frames = 0
        self._other_frames = 0

    async def run(self) -> Close | Fatal:
        """Read to the end of the link; why it ended."""
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(self._converse()), tasks.create_task(self._watch_freshness())]
            try:
                with self.link.reading() as recv:
                    await (self._read_shared(recv) if self._provider.shares_frames else self._read(recv))
            except LinkError as lost:
                self._counters.oversized += isinstance(lost, OversizedError)
                return self._end or Close(str(lost))
            finally:
                for task in beside:
                    task.cancel()

    def change(self, *, add: Sequence[str] = (), remove: Sequence[str] = ()) -> None:
        """Change the subscriptions, while the rest goes on."""
        self.session.change(add=add, remove=remove)
        self._answered.set()

    async def _read(self, recv: Receive) -> NoReturn:
        """The hot loop: it suspends only without a frame. Ends with the error of `recv`."""
        add_frame, now_ns = self._intake.add_frame, time.time_ns
        route, encode = self._writing(RawEncoder(self._provider.name, WS, now_ns()))
        while True:
            frame = await recv()
            received_ns = now_ns()
            found = route(frame)
            key, kind = found
            add_frame(encode(key, frame, kind, received_ns), found, len(frame))
            if kind is not OTHER:
                self.data_frames += 1
            else:
                self._take_other(frame, key)

    def _writing(self, raw: RawEncoder) -> tuple[Callable[[bytes], Route], Encode]:
        """How to route a frame, and how to make its record."""
        if not self._provider.sizes_in_contracts:
            return self._provider.route, raw.encode
        contracts = self._intake.contracts
        return contracts.route, contracts.encoder(raw)

    async def _read_shared(self, recv: Receive) -> NoReturn:
        """As `_read`, with a record for each part of a frame."""
        provider, add_frame, now_ns = self._provider, self._intake.add_frame, time.time_ns
        split, route, encode_part = provider.split, provider.route, RawEncoder(provider.name, WS, now_ns()).encode_part
        number = 0
        while True:
            frame = await recv()
            received_ns = now_ns()
            for part in split(frame):
                found = route(part)
                key, kind = found
                add_frame(encode_part(key, part, kind, received_ns, number), found, len(part))
                if kind is not OTHER:
                    self.data_frames += 1
                else:
                    self._take_other(part, key)
            number += 1

    def _take_other(self, frame: bytes, key: bytes) -> None:
        self._other_frames += 1
        if key == self._intake.key:
            self._answer(self.session.frame(frame, time.monotonic()))

    def _answer(self, actions: list[Action]) -> None:
        """Log at once; leave the rest to `_converse`: the reader never waits for a send."""
        for action in actions:
            if isinstance(action, Report):
                self._report(action)
            else:
                self._answers.append(action)
                self._answered.set()

    async def _converse(self) -> None:
        actions = self.session.opened(time.monotonic())
        with suppress(LinkError):  # the reader reports a lost connection: it still has frames to read
            while self._end is None:
                wait_s = await self._perform(actions)
                if self.session.settled:
                    self.settled.set()
                await self._wait(wait_s)
                actions, self._answers = self._answers, []
                frames = self.data_frames + self._other_frames
                actions += self.session.tick(time.monotonic(), frames=frames, quiet=self._freshness.quiet)

    async def _wait(self, seconds: float) -> None:
        """Return after `seconds`, or when there are answers."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._answered.wait()
        self._answered.clear()

    async def _perform(self, actions: Sequence[Action]) -> float:
        """Perform a session's actions. Returns the seconds until its next tick."""
        wait_s = 0.0
        for action in actions:
            match action:
                case Send(frame):
                    await self.link.send(frame)
                case Wait(seconds):
                    wait_s = seconds
                case Subscribed():
                    self.up = True
                    self._subscribed()
                case Report():
                    self._report(action)
                case Replace(reason):
                    log.info("%s: another connection takes over: %s", self._intake.provider, reason)
                    self.replacing.set()
                case Probe(silence):
                    if not await self.link.answers():
                        await self._close(silence)
                case Close() | Fatal():
                    await self._close(action)
        return wait_s

    async def _close(self, end: Close | Fatal) -> None:
        """Close the link for the reason of `end`, unless there has been another."""
        self._counters.silences += isinstance(end, Close) and end.because == "silence"
        self._end = self._end or end
        await self.link.close()

    def _report(self, report: Report) -> None:
        self._counters.count(report)
        self._lines += 1
        if self._lines <= LINES_PER_CONNECTION:
            log.warning("%s %s", self._intake.provider, report.text)
        if self._lines == LINES_PER_CONNECTION:
            log.warning("%s: further lines of this connection are left out, /metrics counts on", self._intake.provider)

    async def _watch_freshness(self) -> None:
        self._freshness.connected()
        now_s = time.monotonic()
        while self._end is None and not self.replacing.is_set():
            await asyncio.sleep(FRESHNESS_INTERVAL_S)
            passed_s, now_s = time.monotonic() - now_s, time.monotonic()
            if self._data_has_stopped(passed_s):
                self._counters.data_silences += 1
                await self._close(Close(self._freshness.describe()))

    def _data_has_stopped(self, passed_s: float) -> bool:
        """Whether to reconnect because data has stopped; channels that became stale or recovered are logged."""
        freshness, name = self._freshness, self._intake.provider
        before, mute = freshness.stale, freshness.mute
        stopped = freshness.step(passed_s, self._counters.routes, self.data_frames, time.time_ns())
        if freshness.mute - mute:
            log.warning("%s, mute: %s", name, freshness.describe_mute())
        if began := freshness.stale - before:
            log.warning("%s, stale: %s", name, freshness.describe_channels(began))
        if ended := before - freshness.stale:
            log.warning("%s, no longer stale: %s", name, freshness.describe_channels(ended))
        return stopped
