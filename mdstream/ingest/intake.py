"""Frames, heartbeats and status into the backlog as raw records."""

from __future__ import annotations

from typing import Any

import msgspec

from mdstream.ingest.backlog import Backlog
from mdstream.ingest.counters import FeedCounters
from mdstream.kafka.publisher import Partitioner
from mdstream.records import HEARTBEAT, STATUS, WS, RawEncoder
from mdstream.venues.feed import Route

_json = msgspec.json.Encoder().encode


class Intake:
    """One provider's way into the backlog; its topic's partitions are the lanes from `first_lane` on."""

    def __init__(
        self, provider: str, backlog: Backlog, *, first_lane: int, partitions: int, counters: FeedCounters
    ) -> None:
        self.provider, self.counters = provider, counters
        self.key = provider.encode()
        """The key of records that belong to no instrument."""
        self._backlog = backlog
        self._partition = Partitioner(partitions)
        self._first_lane, self._partitions = first_lane, partitions
        self._encode = RawEncoder(provider, WS).encode

    def add_frame(self, frame: bytes, route: Route, received_ns: int) -> bool:
        """Queue a frame as received; True if the backlog is now full and the caller has to wait for `room`."""
        key, kind = route
        backlog, counters, size_bytes = self._backlog, self.counters, len(frame)
        record = self._encode(key, frame, kind, received_ns)
        backlog.add(self._first_lane + self._partition[key], record, size_bytes)
        counters.routes[route] += 1
        counters.bytes += size_bytes
        return backlog.full

    async def room(self) -> None:
        """Return when the backlog has room again."""
        await self._backlog.room()

    def add_heartbeat(self, *, connected: bool, symbols: int, now_ns: int) -> None:
        """Queue a sign of life for every partition. With a full backlog it is skipped: the next one is as good."""
        if self._backlog.full:
            self.counters.heartbeats_skipped += 1
            return
        self._add_everywhere(
            HEARTBEAT,
            {"type": "heartbeat", "provider": self.provider, "connected": connected, "symbols": symbols, "ts": now_ns},
            now_ns,
        )

    def add_status(self, *, state: str, reason: str | None, now_ns: int) -> None:
        """Queue the feed's new state for every partition: connected, disconnected or gave_up."""
        self._add_everywhere(
            STATUS,
            {"type": "status", "provider": self.provider, "state": state, "reason": reason, "ts": now_ns},
            now_ns,
        )

    def _add_everywhere(self, kind: bytes, message: dict[str, Any], now_ns: int) -> None:
        value = _json(message)
        record = self._encode(self.key, value, kind, now_ns)
        for lane in range(self._first_lane, self._first_lane + self._partitions):
            self._backlog.add(lane, record, len(value))
