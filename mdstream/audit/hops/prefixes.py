"""The canonical topics of two prefixes compared: trades one by one, quotes and books by count and hash per minute."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec
from msgspec.structs import replace

from mdstream.audit.events import EventTally, Minute, compare
from mdstream.audit.hops.chain import Chain, Reading, Verdict
from mdstream.audit.hops.logs import CanonicalHop, records
from mdstream.audit.trades import MINUTE_NS, Bucket, Scope, hash_of
from mdstream.cli.progress import Progress
from mdstream.config import Settings
from mdstream.events import BookL2, Quote, encode
from topics import Topics

KINDS: dict[str, type[Quote | BookL2]] = {"quotes": Quote, "books": BookL2}


@dataclass
class PrefixAudit:
    """`here` and `there` are settings that differ only in their prefix."""

    here: Settings
    there: Settings
    scope: Scope
    trades: Chain = field(init=False)
    minutes: dict[str, list[Minute]] = field(default_factory=dict)
    """Every instrument-minute of quotes and books."""
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        sides = (self.here, self.there)
        hops = [CanonicalHop(side, self.scope) for side in sides]
        self.trades = Chain(self.scope, [Reading(hop, self.scope) for hop in hops])

    @property
    def verdict(self) -> Verdict:
        """Holes in `seq` are not judged here: they concern one prefix alone."""
        counts = self.minute_counts()
        if self.trades.totals or self.trades.unnamed or any(verdict != "identical" for _, verdict in counts):
            return "differ"
        traded = any(ledger.total().count for ledger in self.trades.ledgers)
        return "agree" if traded or counts else "nothing to compare"

    async def run(self) -> None:
        """Read both sides and compare. Raises BrokerError if a topic is missing or cannot be read."""
        await self.trades.run()
        self.notes += self.trades.notes
        for kind in KINDS:
            self.minutes[kind] = compare(await self._tally(self.here, kind), await self._tally(self.there, kind))

    async def _tally(self, settings: Settings, kind: str) -> EventTally:
        topics = Topics(settings)
        topic = (topics.quotes if kind == "quotes" else topics.books).name
        decode = msgspec.json.Decoder(KINDS[kind]).decode
        tally = EventTally(self.scope)
        unread = 0
        with Progress(f"audit {topic}", "records") as progress:
            async for record in records(settings, topic, self.scope, progress):
                try:
                    event = decode(record.value or b"")
                except (msgspec.MsgspecError, UnicodeError):
                    unread += 1
                    continue
                time_ns = event.ts_recv if event.ts_exchange is None else event.ts_exchange
                bucket = Bucket(event.provider, event.symbol, time_ns // MINUTE_NS)
                tally.add(bucket, event.seq, hash_of(encode(replace(event, seq=0))))
        if unread:
            self.notes.append(f"{topic}: {unread:,} records that are not of the {kind}")
        return tally

    def minute_counts(self) -> Counter[tuple[str, str]]:
        """Instrument-minutes of quotes and books, by kind and verdict."""
        return Counter((kind, minute.verdict) for kind, minutes in self.minutes.items() for minute in minutes)

    def trade_counts(self) -> dict[str, int]:
        """Trades that are the same on both sides, and those that are not; minutes too many to compare are left out."""
        chain = self.trades
        kinds: Counter[str] = Counter()
        for (_, kind), count in chain.totals.items():
            kinds[kind] += count
        left, _ = chain.ledgers
        beside = kinds["missing"] + kinds["different"] + sum(left.tally(bucket).count for bucket in chain.unnamed)
        return {
            "identical": left.total().count - beside,
            "different": kinds["different"],
            "only here": kinds["missing"],
            "only there": kinds["extra"],
            "doubled": kinds["doubled"],
            "rewritten": kinds["rewritten"],
        }
