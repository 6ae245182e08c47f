"""Every topic in one place: its records, its key, its partitions and its retention.

    md.raw.MARKET ──> md.trades  md.quotes  md.books  md.status ──> md.bars, latest prices, sinks
                      md.gaps (what to repair)   md.state (checkpoints)   md.dead (records that could not be processed)
                      md.instruments (what the venues list)

All share one partition count and Kafka's default key partitioner (murmur2), so partition p of a raw topic maps to
partition p of every canonical topic. This file imports only settings and errors from mdstream, so every module may
import it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mdstream.config import Settings
from mdstream.errors import SettingsError

MIB = 1 << 20
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

MAX_FRAME_BYTES = 15 * MIB
"""The largest frame accepted; a record batch (MAX_BATCH_BYTES) has room for it and its headers."""
MAX_BATCH_BYTES = 16 * MIB


@dataclass(frozen=True)
class Topic:
    """One topic. `retention_ms` None: compacted, the last value of each key is kept forever."""

    name: str
    key: str
    value: str
    partitions: int
    retention_ms: int | None
    max_batch_bytes: int = MIB

    @property
    def compacted(self) -> bool:
        return self.retention_ms is None

    @property
    def config(self) -> dict[str, str]:
        """The broker's settings of this topic, as Kafka names them."""
        config = {"max.message.bytes": str(self.max_batch_bytes)}
        if self.retention_ms is not None:
            # Retention counts from the time of writing: by its own timestamps a replayed capture or a backfill is old
            # and would be deleted at once.
            kept = {"cleanup.policy": "delete", "retention.ms": str(self.retention_ms)}
            return config | kept | {"message.timestamp.type": "LogAppendTime"}
        # Small segments, cleaned early: readers, like a takeover, begin with the first record of a partition.
        return config | {
            "cleanup.policy": "compact",
            "segment.bytes": str(16 * MIB),
            "segment.ms": str(10 * 60 * 1000),
            "min.cleanable.dirty.ratio": "0.1",
            # Longer than a takeover: until then, records of an overtaken owner must not replace valid ones.
            "min.compaction.lag.ms": str(2 * 60 * 1000),
        }


class Topics:
    """The topics of one deployment: `prefix` and partition count come from the settings."""

    def __init__(self, settings: Settings) -> None:
        prefix, count = settings.topic_prefix, settings.partitions

        def topic(name: str, key: str, value: str, retention_ms: int | None, max_batch_bytes: int = MIB) -> Topic:
            return Topic(f"{prefix}.{name}", key, value, count, retention_ms, max_batch_bytes)

        self.raw = {
            market: topic(f"raw.{market}", "instrument", "the venue's frame, untouched", 3 * DAY_MS, MAX_BATCH_BYTES)
            for market in settings.markets
        }
        self.trades = topic("trades", "instrument", "Trade", 7 * DAY_MS)
        self.quotes = topic("quotes", "instrument", "Quote", 2 * DAY_MS)
        self.books = topic("books", "instrument", "BookL2", DAY_MS)
        self.bars = topic("bars", "instrument", "Bar", 30 * DAY_MS)
        self.status = topic("status", "instrument or provider", "FeedStatus, Heartbeat or Gap", 7 * DAY_MS)
        self.gaps = topic("gaps", "instrument", "a request to repair, or an answer to a backfill", 7 * DAY_MS)
        self.instruments = topic("instruments", "provider and symbol", "ListedInstrument", None)
        self.state = topic("state", "input topic, instrument", "state as of an input position", None, MAX_BATCH_BYTES)
        self.dead = topic("dead", "source topic", "what could not be understood, and why", 14 * DAY_MS, MAX_BATCH_BYTES)

    def changelog(self, name: str) -> Topic:
        """The topic behind a table, whose name is Faust's."""
        return Topic(name, "instrument", "the table's value", self.state.partitions, None)

    def __iter__(self) -> Iterator[Topic]:
        yield from self.raw.values()
        yield from (self.trades, self.quotes, self.books, self.bars, self.status, self.gaps, self.instruments)
        yield from (self.state, self.dead)

    def raw_of(self, market: str) -> Topic:
        """The raw topic of a market. Raises SettingsError for a market that the settings do not name."""
        if market not in self.raw:
            raise SettingsError(f"no market {market} in MDSTREAM_MARKETS={','.join(self.raw)}: add it there")
        return self.raw[market]
