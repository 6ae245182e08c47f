"""SenpAI without JetStream: from current events to current subscribers. A live view: what is missed is gone.

    md.events.> ─ as it is read ─> queue, bounded ─> engine ─> senpai.>

Before the first event the last minute is read (warm.py), if it is stored anywhere, so that windows are whole at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from mdstream.config import Settings
from mdstream.ingest.overflow import Overflow
from mdstream.senpai.configured import limits_of
from mdstream.senpai.connected import Connection
from mdstream.senpai.course import SETTLE_NS, Course
from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import Message as Made
from mdstream.senpai.outlet import Outlet, commands
from mdstream.senpai.queue import Message, message, queue
from mdstream.senpai.share import KINDS, TIME, Share
from mdstream.senpai.state import State
from mdstream.senpai.warm import last_minute
from mdstream.sinks.nats_wire import Wire

log = logging.getLogger(__name__)

CHUNK_BYTES = 256 << 10
"""What is stepped before others have the event loop again."""
CHECK_S = 0.25
QUIET_NS = 1_000_000_000
"""After so long without an event, time passes by our clock."""


class Live:
    """Runs until cancelled; `state` says how it is."""

    def __init__(self, settings: Settings, share: Share, state: State) -> None:
        self._settings, self._share, self._state = settings, share, state
        self._connection = Connection(settings, state)
        self._prefix = settings.nats.subject_prefix
        self._waiting: Overflow[Message] = queue()
        self._some = asyncio.Event()
        self._reported: Counter[bytes] = Counter()
        self._outlet = Outlet()
        self._course = Course(Engine(limits_of(settings.senpai)))

    async def run(self) -> None:
        """Raises SinkError if trying again would not help."""
        await self._connection.keep(self._session, outcome="events pass meanwhile")

    async def _session(self, wire: Wire) -> None:
        """Until the connection fails. What waits was received: it is stepped by the next one."""
        group = self._share.name if self._share.members == 1 else ""
        for kind in (*KINDS, TIME):
            await wire.tap(f"{self._prefix}.{kind}.*", self._take, queue=group)
        if self._state.received == 0:
            await self._warm_up(wire)
        log.info("%s reads %s.> at %s", self._share.name, self._prefix, self._connection.place)
        self._state.problem = None
        while True:
            await self._wait(wire)
            await self._publish(wire, self._stepped())

    async def _warm_up(self, wire: Wire) -> None:
        """Step the last minute in silence. Events that came meanwhile wait, and those in both are repeats."""
        found = await last_minute(self._settings, wire, self._share)
        engine = Engine(limits_of(self._settings.senpai, found.since_ns))
        self._course = Course(engine)
        self._state.new_engine(engine)
        for value in found.values:
            for _ in self._course.all(value):
                pass
        self._state.replayed += len(found.values)
        engine.counts.clear()

    def _take(self, subject: bytes, _reply: bytes, value: bytes, _headers: bytes | None) -> None:
        text = subject.decode(errors="replace")
        kind, _, token = text.removeprefix(f"{self._prefix}.").partition(".")
        if self._share.has(kind, token):
            self._waiting.add(message(self._prefix, text, value))
            self._some.set()

    async def _wait(self, wire: Wire) -> None:
        if len(self._waiting):
            await asyncio.sleep(0)  # the reader's turn
        else:
            self._some.clear()
            try:
                async with asyncio.timeout(CHECK_S):
                    await self._some.wait()
            except TimeoutError:
                pass
        if not wire.is_connected:
            raise wire.why or ConnectionResetError("it closed the connection")

    def _stepped(self) -> list[Made]:
        """The messages of what waits, or of the time that passed."""
        chunk, now_ns, engine = self._waiting.first(CHUNK_BYTES), time.time_ns(), self._course.engine
        made = self._pressure(now_ns)
        self._state.pending = len(self._waiting)
        for each in chunk:
            made += self._course.all(each.value, now_ns=now_ns)
        self._waiting.remove(chunk)
        self._state.received += len(chunk)
        if chunk:
            self._state.heard_s = time.monotonic()
        elif engine.latest_ns and now_ns - engine.latest_ns > QUIET_NS + SETTLE_NS:
            made += engine.advance(now_ns - SETTLE_NS)
        return made

    def _pressure(self, now_ns: int) -> list[Made]:
        """The alerts on the queue."""
        dropped = self._waiting.dropped - self._reported
        self._reported = self._waiting.dropped.copy()
        self._state.dropped.update({kind.decode(): count for kind, count in dropped.items()})
        self._state.fill = self._waiting.fill
        return self._course.engine.queue(self._waiting.fill, dropped.total(), now_ns)

    async def _publish(self, wire: Wire, made: list[Made]) -> None:
        if not made:
            return
        outputs = self._outlet.outputs(made)
        await wire.send(commands(self._settings.senpai.subject_prefix, outputs))
        self._state.refused += len(made) - len(outputs)
        self._state.published(made)
