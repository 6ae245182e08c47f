"""A durable pull consumer of a stream, read in the stream's order over one connection.

Whoever opens it sets where it begins: at each start it is deleted and made anew. A consumer that is only resumed would
first give what is new, and what a process that was killed had in hand much later, when its time to acknowledge is over.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from nats.errors import Error

from mdstream.sinks.nats_stream import RefusedError, api_request
from mdstream.sinks.nats_wire import Wire

BATCH, AHEAD = 1_000, 2_000
"""Messages of one request, and how many may be asked for and not taken yet: what memory may have to hold."""
EXPIRES_S, SILENCE_S = 5, 15
"""A request is answered at the latest after EXPIRES_S; a server that says nothing for SILENCE_S counts as down."""
CHECK_S = 1.0
NO_CONSUMER = 10014
OLD_FORM = 9
DAY_NS = 86_400 * 1_000_000_000
PENDING = re.compile(rb"Nats-Pending-Messages: *(\d+)")
STATUS = re.compile(rb"NATS/1\.0 +(\d+) *([^\r]*)")
EXPIRED = frozenset({b"404", b"408"})


class Pulled(NamedTuple):
    """A message: its position in the stream, when it was stored, how many come after it, where to acknowledge."""

    position: int
    stored_ns: int
    pending: int
    subject: bytes
    value: bytes
    reply: bytes


def read(subject: bytes, reply: bytes, value: bytes) -> tuple[int, Pulled]:
    """A message, and its number among all that the consumer gave.

    `reply` is $JS.ACK.[DOMAIN.ACCOUNT.]STREAM.CONSUMER.DELIVERED.POSITION.NUMBER.STORED.PENDING[.RANDOM]: of 9 tokens,
    or of 11 and more (https://docs.nats.io/reference/reference-protocols/nats_api_reference, read 2026-11).
    """
    tokens = reply.split(b".")
    position, number, stored_ns, pending = map(int, tokens[5:9] if len(tokens) == OLD_FORM else tokens[7:11])
    return number, Pulled(position, stored_ns, pending, subject, value, reply)


class Consumer:
    """The durable consumer `name` of a stream. Every failure raises one of nats_wire.Failure or RefusedError."""

    def __init__(self, wire: Wire, stream: str, name: str) -> None:
        self._wire, self._stream, self._name = wire, stream, name
        self._inbox = wire.new_inbox()
        self._asked = 0
        self._arrived: deque[tuple[bytes, bytes, bytes]] = deque()
        self._failure: Exception | None = None
        self._next = 1  # the consumer's own number of the message that is due
        self._some = asyncio.Event()

    async def open(self, deliver: Mapping[str, object], subjects: Sequence[str]) -> None:
        """Make it anew; `deliver`: where it begins, as a consumer's configuration says it."""
        try:
            await self.close()
        except RefusedError as error:
            if error.code != NO_CONSUMER:
                raise
        config = {
            "durable_name": self._name,
            "ack_policy": "all",
            "ack_wait": DAY_NS,
            "max_ack_pending": -1,
            "filter_subjects": list(subjects),
            **deliver,
        }
        what = f"CONSUMER.DURABLE.CREATE.{self._stream}.{self._name}"
        await api_request(self._wire, what, {"stream_name": self._stream, "config": config})
        await self._wire.tap(self._inbox, self._take)

    async def close(self) -> None:
        """Delete it."""
        await api_request(self._wire, f"CONSUMER.DELETE.{self._stream}.{self._name}")

    async def some(self) -> list[Pulled]:
        """What has arrived, at least one message, oldest first; empty if nothing came within EXPIRES_S."""
        await self._ask()
        try:
            async with asyncio.timeout(SILENCE_S):
                while not self._some.is_set():
                    await self._wait()
        except TimeoutError:
            raise TimeoutError(f"the consumer {self._name} is silent") from None
        self._some.clear()
        if self._failure is not None:
            raise self._failure
        arrived, self._arrived = self._arrived, deque()
        return [self._due(*read(*each)) for each in arrived]

    async def acknowledge(self, message: Pulled) -> None:
        """Everything up to this message is done. For those who watch the consumer: no start depends on it."""
        await self._wire.send(b"PUB " + message.reply + b" 4\r\n+ACK\r\n")

    def _due(self, number: int, message: Pulled) -> Pulled:
        if number != self._next:
            raise Error(f"the consumer {self._name} gave its message {number} after {self._next - 1}")
        self._next += 1
        return message

    async def _wait(self) -> None:
        """Until something comes, CHECK_S at most. Raises what ended the connection."""
        if not self._wire.is_connected:
            raise self._wire.why or ConnectionResetError("it closed the connection")
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_S):
                await self._some.wait()

    async def _ask(self) -> None:
        if self._asked + BATCH > AHEAD:
            return
        self._asked += BATCH
        request: dict[str, Any] = {"batch": BATCH, "expires": EXPIRES_S * 1_000_000_000}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
        await self._wire.publish(subject, msgspec.json.encode(request), reply=self._inbox)

    def _take(self, subject: bytes, reply: bytes, value: bytes, headers: bytes | None) -> None:
        if reply:
            self._asked -= 1
            self._arrived.append((subject, reply, value))
        else:
            self._told(headers or b"")
        self._some.set()

    def _told(self, headers: bytes) -> None:
        """A status in place of a message: the request is over, or the consumer."""
        status = STATUS.match(headers)
        if status is None or status[1] not in EXPIRED:
            why = status[2].decode(errors="replace") if status else "an unknown answer"
            self._failure = Error(f"the consumer {self._name}: {why}")
            return
        left = PENDING.search(headers)
        self._asked -= int(left[1]) if left else BATCH
