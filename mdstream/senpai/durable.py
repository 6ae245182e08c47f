"""SenpAI over JetStream: from the stream of events into the stream of features, signals and alerts, each once.

    events ── durable consumer ──> engine ──> batch: messages + position ──> SENPAI
       ^                                                     │
       └──────────── where to begin, what to leave out <─────┘

A batch is stored whole or not at all (ADR-50), and holds what is needed to go on after it: the position of the last
event that is in it, the engine's memory, and where its last minute begins. So whatever ends this process, the server or
the connection, and whenever: the next start reads the last position, steps the events of the last minute before it in
silence, and goes on after it. A batch is refused if another process has stored a position since (of the same name,
presumed dead): nothing is stored twice.

Time is that of the events and of the stream, never our clock: the same stream gives the same messages.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from base64 import b64decode
from typing import Any

import msgspec

from mdstream.config import Settings
from mdstream.senpai.configured import limits_of
from mdstream.senpai.connected import Connection
from mdstream.senpai.course import REPLAYED_NS, Course
from mdstream.senpai.engine import Engine
from mdstream.senpai.messages import Message
from mdstream.senpai.outlet import Outlet, Output
from mdstream.senpai.pulled import Consumer, Pulled
from mdstream.senpai.share import Share
from mdstream.senpai.state import State
from mdstream.senpai.stored import time_ns, time_text
from mdstream.sinks.nats_stream import MIB, NO_MESSAGE, NOT_FOUND, RefusedError, S, Stream, api_request
from mdstream.sinks.nats_wire import Wire

log = logging.getLogger(__name__)

OUTPUTS = 500
"""A batch is stored once it has so many messages. One step adds course.MOST and a few; a server takes 1,000."""
EVERY_S = 0.02
"""Time between two batches, at least."""
MEMORY_SHARE = 0.1
"""Each batch holds the memory of every symbol: with thousands of them batches are so far apart that it takes no larger
part of the CPU time."""
IDLE_S = 1.0
"""A position is stored after this time also without a message: a restart has less to step again."""
TAKEN = 10058
"""The stream is there already, configured in another way."""


class Position(msgspec.Struct, array_like=True):
    """What is stored with each batch. `created`: when the stream was made that the positions are of."""

    created: str
    position: int
    start: int
    memory: bytes


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Position).decode


class Durable:
    """Runs until cancelled; `state` says how it is."""

    def __init__(self, settings: Settings, share: Share, state: State) -> None:
        self._settings, self._share, self._state = settings, share, state
        self._connection = Connection(settings, state)
        limits_of(settings.senpai)  # wrong rules are reported at the start

    async def run(self) -> None:
        """Raises SinkError if trying again would not help."""
        await self._connection.keep(self._session, outcome="no event is lost")

    async def _session(self, wire: Wire) -> None:
        await Session(self._settings, self._share, self._state, wire).run()


class Session:
    """One connection, until it fails. Raises one of nats_wire.Failure, RefusedError, UnusableError."""

    def __init__(self, settings: Settings, share: Share, state: State, wire: Wire) -> None:
        self._settings, self._share, self._state, self._wire = settings, share, state, wire
        self._input = share.stream(settings.nats.stream)
        self._out = _out(wire, settings)
        self._tail = f"state.{share.name}"
        self._consumer = Consumer(wire, self._input, share.name)
        self._course = Course(Engine())
        self._outlet = Outlet()
        self._created = ""
        self._at = 0
        """Of the last position, in the stream of messages."""
        self._known = 0
        """The last event whose messages are stored."""
        self._silent = True
        """Events up to there are being stepped."""
        self._made: list[Message] = []
        self._arrived: list[int] = []
        self._stored_s = time.monotonic()
        self._every_s = EVERY_S

    async def run(self) -> None:
        """Take events, make messages, store them, forever."""
        await self._out.open()
        await self._begin()
        while True:
            some = await self._consumer.some()
            for message in some:
                await self._step(message)
            if self._silent and (not some or some[-1].pending == 0):
                self._speak()
            if some:
                self._state.pending, self._state.heard_s = some[-1].pending, time.monotonic()
                await self._store_due(some[-1])

    async def _begin(self) -> None:
        """Find where to go on, and make the consumer begin a minute before it."""
        info = await self._input_info()
        self._created, found, first = info["created"], info["state"], int(info["state"]["first_seq"])
        self._at, last = await self._last()
        if last is None:
            since_ns = time.time_ns() - REPLAYED_NS
            whole = found["messages"] > 0 and time_ns(found["first_ts"]) < since_ns
            if time_ns(self._created) < self._state.started_ns:  # a stream that we waited for is new as a whole
                self._known = int(found["last_seq"])
            self._use(Engine(limits_of(self._settings.senpai, since_ns if whole else None)))
            await self._open({"deliver_policy": "by_start_time", "opt_start_time": time_text(since_ns)})
            await self._store(self._known)  # what comes from now on counts, whatever happens
            return
        same = last.created == self._created
        start = last.start if same else 0
        self._known = last.position if same else 0
        engine = Engine(limits_of(self._settings.senpai))
        engine.remember(zlib.decompress(last.memory), whole=same and first <= start + 1)
        self._use(engine)
        await self._open({"deliver_policy": "by_start_sequence", "opt_start_seq": max(1, start + 1)})

    def _use(self, engine: Engine) -> None:
        self._course = Course(engine)
        self._state.new_engine(engine)

    async def _open(self, deliver: dict[str, Any]) -> None:
        await self._consumer.open(deliver, self._share.subjects(self._settings.nats.subject_prefix))

    async def _step(self, message: Pulled) -> None:
        course, position, now_ns = self._course, message.position, message.stored_ns
        if position <= self._known:
            self._state.replayed += 1
            for _ in course.all(message.value, now_ns=now_ns, position=position):
                pass
            return
        if self._silent:
            self._speak()
        self._state.received += 1
        self._add(course.step(message.value, now_ns=now_ns, position=position), now_ns)
        while course.unfinished:  # the position before: the rest is made again if this is the last that is stored
            await self._store(position - 1)
            self._add(course.proceed(position), now_ns)
        if len(self._made) >= OUTPUTS:
            await self._store(position)

    def _speak(self) -> None:
        """The last minute is stepped: from now on messages count."""
        self._silent = False
        self._course.engine.resume()
        if self._state.problem is not None:
            log.info("%s reads %s after position %d", self._share.name, self._input, self._known)
        self._state.problem = None

    def _add(self, made: list[Message], arrived_ns: int) -> None:
        if made:
            self._made += made
            self._state.unstored = len(self._made)
            self._arrived.append(arrived_ns)

    async def _store_due(self, last: Pulled) -> None:
        if last.position <= self._known:
            return
        waited_s = time.monotonic() - self._stored_s
        if self._made:
            await asyncio.sleep(self._every_s - waited_s)
        if self._made or waited_s > IDLE_S:
            await self._store(last.position)
            await self._consumer.acknowledge(last)

    async def _store(self, position: int) -> None:
        """Store the messages made so far, and that they are those of the events up to a position."""
        made, self._made = self._made, []
        began_s = time.thread_time()
        memory = zlib.compress(self._course.engine.memory(), 1)
        self._every_s = max(EVERY_S, (time.thread_time() - began_s) / MEMORY_SHARE)
        start = self._known if self._course.start is None else self._course.start
        state = Output(self._tail, None, _pack(Position(self._created, position, start, memory)))
        outputs = [*self._outlet.outputs(made), state]
        self._at = await self._out.store(outputs, {self._tail: self._at}, only_last=self._tail)
        self._stored_s, self._state.unstored = time.monotonic(), 0
        self._state.refused += len(made) + 1 - len(outputs)
        self._state.published(made)
        now_ns, arrived = time.time_ns(), self._arrived
        self._arrived = []
        for each in arrived:
            self._state.delays.add((now_ns - each) / S)

    # -- the streams

    async def _last(self) -> tuple[int, Position | None]:
        """The last position that was stored, and where."""
        senpai = self._settings.senpai
        body = {"last_by_subj": f"{senpai.subject_prefix}.{self._tail}"}
        try:
            answer = await api_request(self._wire, f"STREAM.MSG.GET.{senpai.stream}", body)
        except RefusedError as error:
            if error.code != NO_MESSAGE:
                raise
            return 0, None
        return int(answer["message"]["seq"]), _unpack(b64decode(answer["message"]["data"]))

    async def _input_info(self) -> dict[str, Any]:
        nats = self._settings.nats
        try:
            if self._share.members > 1:
                await self._copy()
            return await api_request(self._wire, f"STREAM.INFO.{self._input}")
        except RefusedError as error:
            if error.code != NOT_FOUND:
                raise
            raise RefusedError(
                error.code,
                f"there is no stream {nats.stream} yet: `mdstream worker nats` with USE_JETSTREAM=true makes it",
            ) from None

    async def _copy(self) -> None:
        """Make the stream of shares, unless it is there; it begins with the last minute."""
        nats = self._settings.nats
        await api_request(self._wire, f"STREAM.INFO.{nats.stream}")
        source = self._share.copied(nats.stream, nats.subject_prefix)
        source["opt_start_time"] = time_text(time.time_ns() - REPLAYED_NS)
        body = {
            "name": self._input,
            "description": f"{nats.stream} by share of its symbols, for mdstream senpai",
            "sources": [source],
            "storage": "file",
            "max_age": int(nats.stream_hours * 3600 * S),
            "max_bytes": nats.stream_mb * MIB or -1,
            "num_replicas": nats.stream_replicas,
        }
        try:
            await api_request(self._wire, f"STREAM.CREATE.{self._input}", body)
        except RefusedError as error:
            if error.code != TAKEN:
                raise


def _out(wire: Wire, settings: Settings) -> Stream:
    """The stream of messages."""
    senpai = settings.senpai
    nats = settings.nats.model_copy(update={"stream": senpai.stream, "subject_prefix": senpai.subject_prefix})
    more: dict[str, object] = {"allow_rollup_hdrs": True, "max_msgs_per_subject": senpai.stream_messages}
    return Stream(wire, settings.model_copy(update={"nats": nats}), more)
