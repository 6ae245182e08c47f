"""Puts frames, heartbeats and status into the backlog as raw records."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import msgspec

from mdstream.ingest.backlog import Backlog
from mdstream.ingest.contracts import Contracts
from mdstream.ingest.counters import FeedCounters
from mdstream.kafka.publisher import Partitioner
from mdstream.records import HEARTBEAT, STATUS, WS, ProducerRecord, RawEncoder
from mdstream.venues.feed import Provider, Remembered, Route

_json = msgspec.json.Encoder().encode


class Intake:
    """Adds one provider's records to the backlog. `queues`: those of the raw topic of each of its markets, its own
    first. `contract_size`: what its contracts are worth, by symbol."""

    def __init__(
        self,
        provider: Provider,
        backlog: Backlog,
        queues: Mapping[str, range],
        contract_size: Mapping[str, str] | None = None,
    ) -> None:
        self.provider, self.counters = provider.name, FeedCounters()
        self.contracts = Contracts(provider, contract_size or {})
        self.key = provider.name.encode()
        """The key of records that belong to no instrument."""
        self._backlog, self._queues = backlog, queues
        self._home = next(iter(queues.values()))
        self._market_of, self._partition = provider.market_of_record, Partitioner(len(self._home))
        self._queue = Remembered(self._queue_of)
        self._encode = RawEncoder(provider.name, WS).encode

    def add_frame(self, record: ProducerRecord, route: Route, size_bytes: int) -> None:
        """Queue the record of a frame, or of a part of one, of `size_bytes`."""
        counters = self.counters
        self._backlog.add(self._queue[route[0]], record, size_bytes)
        counters.routes[route] += 1
        counters.bytes += size_bytes

    def takes(self, symbol: str) -> bool:
        """Whether the raw topic of a symbol's market is among those that it writes to."""
        return self._market_of(symbol.encode()) in self._queues

    def _queue_of(self, key: bytes) -> int:
        """The queue of an instrument's records; an unsubscribed one may be of a market without queues."""
        return self._queues.get(self._market_of(key), self._home)[self._partition(key)]

    def add_heartbeat(self, *, connected: bool, symbols: int, now_ns: int, closed: bool = False) -> None:
        """Queue a heartbeat for every partition of every topic. `closed`: all its markets are."""
        message = {"type": "heartbeat", "provider": self.provider, "connected": connected, "symbols": symbols}
        self._add_everywhere(HEARTBEAT, message | ({"closed": True} if closed else {}) | {"ts": now_ns}, now_ns)

    def add_status(self, *, state: str, reason: str | None, now_ns: int) -> None:
        """Queue the feed's new state for every partition of every topic: connected, disconnected or gave_up."""
        self._add_everywhere(
            STATUS,
            {"type": "status", "provider": self.provider, "state": state, "reason": reason, "ts": now_ns},
            now_ns,
        )

    def _add_everywhere(self, kind: bytes, message: dict[str, Any], now_ns: int) -> None:
        value = _json(message)
        record = self._encode(self.key, value, kind, now_ns)
        for queue in chain(*self._queues.values()):
            self._backlog.add(queue, record, len(value))
