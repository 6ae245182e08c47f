"""The audit's hop for the nats role: the trades in the JetStream stream, where each must appear once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec
from nats.aio.subscription import Subscription

from mdstream.audit.hops.logs import SLACK_MS, Add, audit_trade
from mdstream.audit.trades import Scope
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.errors import MdstreamError
from mdstream.events import Trade
from mdstream.net.redact import redacted
from mdstream.sinks.nats_stream import RefusedError, api_request
from mdstream.sinks.nats_wire import ANSWER_LIMIT_S, Failure, Wire, access_of, connect, reason_of, servers_of

FETCHED_AT_ONCE = 1_000
"""Messages per request, and the most that wait here: the server sends no more until the next request."""
CONSUMER_KEPT_S = 60
"""The server forgets the reader this long after its last request."""
S = 1_000_000_000


class NatsHop:
    """The stream NATS_STREAM. A trade that is there twice is a fault, so no `seq` is passed on, which would make it a
    repeat. A note counts the trades that are out of their instrument's order."""

    may_repeat: ClassVar = False
    is_end: ClassVar = True

    def __init__(self, settings: Settings, scope: Scope) -> None:
        self._settings, self._scope = settings, scope
        self.name = f"NATS stream {settings.nats.stream}"
        self._servers, self._access = servers_of(settings), access_of(settings)
        self._subject = f"{settings.nats.subject_prefix}.trade.>"
        self.unread: Counter[str] = Counter()

    async def check(self) -> None:
        """Raise MdstreamError if the stream cannot be read; runs before the other hops are read."""
        async with self._explaining_failure(), self._reader():
            pass

    async def read(self, add: Add) -> None:
        """Call `add` for every trade. Raises MdstreamError if the stream cannot be read."""
        self.unread.clear()
        decode = msgspec.json.Decoder(Trade).decode
        latest: dict[str, int] = {}
        with Progress(f"audit {self.name}", "messages") as progress:
            count = 0
            async for payload in self._payloads():
                count += 1
                progress.show(count)
                try:
                    trade = decode(payload)
                except (msgspec.MsgspecError, UnicodeError):
                    self.unread["messages that are no trade"] += 1
                    continue
                if trade.seq <= latest.get(trade.symbol, -1):
                    self.unread["trades behind a later one of their instrument"] += 1
                latest[trade.symbol] = trade.seq
                add(audit_trade(trade))

    async def _payloads(self) -> AsyncIterator[bytes]:
        async with self._explaining_failure(), self._reader() as (wire, subscription, request, pending):
            while pending:
                await wire.publish(*request, reply=subscription.subject)
                for _ in range(min(pending, FETCHED_AT_ONCE)):
                    message = await subscription.next_msg(ANSWER_LIMIT_S)
                    if message.headers and message.headers.get("Status"):  # the rest has expired meanwhile
                        return
                    pending -= 1
                    yield message.data

    @asynccontextmanager
    async def _explaining_failure(self) -> AsyncIterator[None]:
        try:
            yield
        except (*Failure, RefusedError) as error:
            place = ", ".join(map(redacted, self._servers))
            raise MdstreamError(
                f"the stream {self._settings.nats.stream} at {place} cannot be read: {reason_of(error)} (NATS_URL, "
                "NATS_STREAM)"
            ) from error

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[tuple[Wire, Subscription, tuple[str, bytes], int]]:
        """A connection, the subscription for messages, the request for more of them, and how many there are."""
        wire = await connect(self._servers, self._access, name="mdstream-audit")
        try:
            made = await self._consumer(wire)
            stream, name = self._settings.nats.stream, made["name"]
            # No limit in bytes: beyond it nats-py would drop messages.
            subscription = await wire.subscribe(
                wire.new_inbox(), pending_msgs_limit=FETCHED_AT_ONCE + 1, pending_bytes_limit=0
            )
            query = {"batch": FETCHED_AT_ONCE, "no_wait": True}
            request = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", msgspec.json.encode(query)
            yield wire, subscription, request, int(made["num_pending"])
            await api_request(wire, f"CONSUMER.DELETE.{stream}.{name}", {})
        finally:
            await wire.drop()

    async def _consumer(self, wire: Wire) -> dict[str, Any]:
        """A temporary consumer of the trades stored from about the scope's beginning on."""
        config: dict[str, Any] = {
            "filter_subject": self._subject,
            "ack_policy": "none",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": CONSUMER_KEPT_S * S,
            "deliver_policy": "all",
        }
        begin_s = self._scope.first_minute * 60 - SLACK_MS // 1000
        if begin_s > 0:
            start = datetime.fromtimestamp(begin_s, UTC).isoformat()
            config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
        stream = self._settings.nats.stream
        return await api_request(wire, f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})
