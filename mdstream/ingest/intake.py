"""Frames, heartbeats and status as raw records: key, value, time and headers.

Headers: p (provider), t (receive time, ns, 8 bytes big-endian), k (kind), via (ws: a live feed).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

from mdstream.ingest.backlog import Backlog
from mdstream.ingest.counters import FeedCounters
from mdstream.kafka.publisher import Partitioner
from mdstream.kinds import HEARTBEAT, STATUS
from mdstream.venues.feed import BOOK, OTHER, QUOTE, TRADE, Provider, Remembered, Route

MS = 1_000_000

_int64 = struct.Struct(">q").pack
_json = msgspec.json.Encoder().encode
_VIA = ("via", b"ws")


class Intake:
    """One provider's way into the backlog. `lanes`: those of the raw topic of each of its markets, its own first."""

    def __init__(self, provider: Provider, backlog: Backlog, lanes: Mapping[str, range]) -> None:
        self.provider, self.counters = provider.name, FeedCounters()
        self.key = provider.name.encode()
        """The key of records that belong to no instrument."""
        self._backlog, self._lanes = backlog, lanes
        self._home = next(iter(lanes.values()))
        self._market_of, self._partition = provider.market_of_record, Partitioner(len(self._home))
        self._lane = Remembered(self._lane_of)
        self._p = ("p", self.key)
        self._k = {kind: ("k", kind) for kind in (TRADE, QUOTE, BOOK, OTHER, HEARTBEAT, STATUS)}

    def add_frame(self, frame: bytes, route: Route, received_ns: int) -> bool:
        """Queue a frame as received; True if the backlog is now full and the caller has to wait for `room`."""
        key, kind = route
        backlog, counters, size_bytes = self._backlog, self.counters, len(frame)
        headers = [self._p, ("t", _int64(received_ns)), self._k[kind], _VIA]
        backlog.add(self._lane[key], (key, frame, received_ns // MS, headers), size_bytes)
        counters.routes[route] += 1
        counters.bytes += size_bytes
        return backlog.full

    def _lane_of(self, key: bytes) -> int:
        """The lane of an instrument's records; one that nobody asked for may be of a market without lanes."""
        return self._lanes.get(self._market_of(key), self._home)[self._partition(key)]

    async def room(self) -> None:
        """Return when the backlog has room again."""
        await self._backlog.room()

    def add_heartbeat(self, *, connected: bool, symbols: int, now_ns: int) -> None:
        """Queue a sign of life for every partition of every topic.

        With a full backlog it is skipped: the next one is as good.
        """
        if self._backlog.full:
            self.counters.heartbeats_skipped += 1
            return
        self._add_everywhere(
            HEARTBEAT,
            {"type": "heartbeat", "provider": self.provider, "connected": connected, "symbols": symbols, "ts": now_ns},
            now_ns,
        )

    def add_status(self, *, state: str, reason: str | None, now_ns: int) -> None:
        """Queue the feed's new state for every partition of every topic: connected, disconnected or gave_up."""
        self._add_everywhere(
            STATUS,
            {"type": "status", "provider": self.provider, "state": state, "reason": reason, "ts": now_ns},
            now_ns,
        )

    def _add_everywhere(self, kind: bytes, message: dict[str, Any], now_ns: int) -> None:
        value = _json(message)
        headers = [self._p, ("t", _int64(now_ns)), self._k[kind], _VIA]
        for lane in chain(*self._lanes.values()):
            self._backlog.add(lane, (self.key, value, now_ns // MS, headers), len(value))
