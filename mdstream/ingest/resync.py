"""Subscribes again to what the canonical stream can no longer keep: a new subscription brings a snapshot of the book.

md.status ── book_lost of one of our instruments ──> unsubscribe, subscribe; at most every RESYNC_S
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

import msgspec

from mdstream import kafka
from mdstream.config import Settings
from mdstream.errors import BrokerError
from mdstream.ingest.feed import Feed
from topics import Topics

log = logging.getLogger(__name__)

RESYNC_S = 5.0
RETRY_S = 5.0
"""While Kafka is away."""


class _Event(msgspec.Struct):
    type: str = ""
    state: str = ""
    provider: str = ""
    symbol: str = ""
    reason: str | None = None


_decode = msgspec.json.Decoder(_Event).decode


async def resync(feeds: Sequence[Feed], settings: Settings) -> None:
    """Watch md.status from now on, until cancelled."""
    desk = Resync(feeds)
    while True:
        try:
            await _watch(desk, settings)
        except BrokerError as error:  # the sender reports it
            log.debug("%s", error)
        await asyncio.sleep(RETRY_S)


async def _watch(desk: Resync, settings: Settings) -> None:
    servers = settings.bootstrap_servers
    partitions = await kafka.partitions_of(servers, Topics(settings).status.name)
    async with kafka.reader(servers) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        while True:
            for records in (await consumer.getmany(timeout_ms=1_000)).values():
                for record in records:
                    desk.take(record.value or b"")
            await desk.subscribe_again(time.monotonic())


class Resync:
    """Which instruments need a new subscription, and when."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = {feed.provider.name: feed for feed in feeds}
        self._done_s: dict[tuple[Feed, str], float] = {}
        self._due: dict[tuple[Feed, str], str | None] = {}  # and why

    def take(self, value: bytes) -> None:
        """An event of md.status."""
        try:
            event = _decode(value)
        except msgspec.MsgspecError:
            return
        feed = self._feeds.get(event.provider)
        if event.type == "status" and event.state == "book_lost" and feed is not None:
            self._due.setdefault((feed, event.symbol), event.reason)

    async def subscribe_again(self, now_s: float) -> None:
        """Subscribe again to what is due."""
        self._done_s = {key: done_s for key, done_s in self._done_s.items() if now_s - done_s < RESYNC_S}
        for feed, symbol in [key for key in self._due if key not in self._done_s]:
            reason = self._due.pop((feed, symbol))
            self._done_s[feed, symbol] = now_s
            if symbol in feed.symbols:
                log.info("%s: subscribing again to %s, its book is lost: %s", feed.provider.name, symbol, reason)
                await feed.change(add=[symbol], remove=[symbol])
