"""Neighbouring hops compared pair by pair: read once, and a second time where they do not agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

from mdstream.audit.details import Details, Difference, differences
from mdstream.audit.hops.logs import Hop
from mdstream.audit.ledger import Ledger, affordable, differing, neighbours
from mdstream.audit.numbering import Hole
from mdstream.audit.trades import AuditTrade, Bucket, Identity, Place, Scope, bucket_of, identity_of

MAX_DETAILED = 1_000_000
"""Trades held at once, per hop, to name those that differ."""
MAX_HOLES = 1000
MAX_KEPT = 10_000
"""Differences kept by name; all are counted."""

Verdict = Literal["agree", "differ", "nothing to compare"]


class Reading:
    """One hop of the chain and its ledger. Hops that need more checks derive from it."""

    def __init__(self, hop: Hop, scope: Scope) -> None:
        self.hop = hop
        self.ledger = Ledger(hop.name, scope, may_repeat=hop.may_repeat, is_end=hop.is_end)

    def take(self, trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b"") -> None:  # noqa: ARG002
        """Take in a trade of the first pass."""
        self.ledger.add(trade, seq, place)

    def settle(self, chain: Chain) -> None:
        """Called once all hops are read for the first time: exclude what is not compared."""

    async def read_details(self, wanted: set[Bucket], ignored: set[Identity]) -> Details:
        """The trades of these buckets."""
        details = Details(self.ledger, wanted, may_repeat=self.hop.may_repeat, ignored=ignored)
        if wanted or self.ledger.numbering.repeated:
            await self.hop.read(details.add)
        return details


@dataclass
class Chain:
    """The hops, in order, and the findings about them."""

    scope: Scope
    readings: list[Reading]
    notes: list[str] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    """At most MAX_HOLES; `hole_count` counts all."""
    hole_count: int = 0
    found: list[Difference] = field(default_factory=list)
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Differences by hop and kind; `found` holds those kept by name."""
    unnamed: set[Bucket] = field(default_factory=set)
    """Instrument-minutes that differ, but were too many to compare trade by trade."""
    ignored: set[Identity] = field(default_factory=set)

    @property
    def ledgers(self) -> list[Ledger]:
        return [reading.ledger for reading in self.readings]

    @property
    def verdict(self) -> Verdict:
        if self.totals or self.unnamed or self.holes:
            return "differ"
        compared = any(ledger.due(bucket).count for ledger in self.ledgers for bucket in ledger.buckets())
        return "agree" if compared else "nothing to compare"

    async def run(self) -> None:
        """Read the hops and compare. Raises BrokerError, CaptureError or MdstreamError if one cannot be read."""
        for reading in reversed(self.readings):  # so that a hop is read after the one it fills
            await reading.hop.read(reading.take)
        for ledger in self.ledgers:
            for hole in ledger.numbering.holes():
                self.hole_count += 1
                if len(self.holes) < MAX_HOLES:
                    self.holes.append(hole)
        for reading in self.readings:
            reading.settle(self)
        following: Ledger | None = None
        for ledger in reversed(self.ledgers):
            ledger.choose_id_spaces(following)
            following = ledger
        differ = differing(self.ledgers)
        if differ or any(ledger.numbering.repeated for ledger in self.ledgers):
            await self._compare_details(differ)
        self._note_what_was_left_out()

    def ignore(self, trade: AuditTrade) -> None:
        """Exclude a trade from the comparison at every hop."""
        if self.scope.has(bucket_of(trade)):
            self.ignored.add(identity_of(trade))
            for ledger in self.ledgers:
                ledger.discount(trade)

    async def _compare_details(self, differ: set[Bucket]) -> None:
        wanted = affordable(self.ledgers, differ, MAX_DETAILED)
        self.unnamed = differ - wanted
        # Again the last hop first: a trade that comes meanwhile must not be at a hop but not at the one before it.
        details = [await reading.read_details(wanted, self.ignored) for reading in reversed(self.readings)][::-1]
        between = (differences(details[a], details[b], wanted) for a, b in neighbours(self.ledgers))
        for difference in chain(*between, *(detail.own_differences() for detail in details)):
            self.totals[difference.hop, difference.kind] += 1
            if len(self.found) < MAX_KEPT:
                self.found.append(difference)

    def _note_what_was_left_out(self) -> None:
        for reading in self.readings:
            name = reading.hop.name
            for (provider, symbol, id_space), count in sorted(reading.ledger.set_aside.items()):
                self.notes.append(
                    f"{name}: {count:,} trades of {provider} {symbol} in the id space {id_space!r} are set aside: the "
                    "same executions as those compared"
                )
            self.notes += [f"{name}: {count:,} {what}" for what, count in sorted(reading.hop.unread.items())]

    def buckets(self) -> list[Bucket]:
        """Every instrument-minute in which a hop holds a trade."""
        return sorted({b for ledger in self.ledgers for b in ledger.buckets() if ledger.tally(b).count})
