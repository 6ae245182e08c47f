"""Which source the canonical stream followed, and when: it distinguishes a trade that stood by from a lost one.

    canonical, in order   A A A A A | B B B B B | A A         three stretches, each up to its last trade
    raw, of A             a a a a a   . . . x x   a a         x: came back, while B was followed: stood by
    raw, of B             . b . b . b b . b b b   b b         . b of the first stretch: stood by; trades after A's last
                                                              one are due from B: those missing are lost

Stretches come from the canonical trades alone, not from the switches that the worker reports: the audit does not trust
what it checks. Nothing stands by for a source that sent no frame at all at that time: then no source was followed, and
trades of others that the canonical stream lacks are lost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from mdstream.audit.ledger import Ledger, Tally
from mdstream.audit.seen import Numbers
from mdstream.audit.trades import AuditTrade, Bucket, bucket_of, fingerprint

HANDOVER_NS = 100_000_000
"""This close to a handover, a trade of either source does not count as lost: the venues' delays differ."""
SLOT_NS = 10_000_000_000
"""A source counts as alive if it sent a frame in the same ten seconds, or in those before or after."""


@dataclass(slots=True)
class Stretch:
    """One source followed without a break, up to its trade of `last_ns`; `received_ns`: when its last one came."""

    provider: str
    first_ns: int
    last_ns: int
    received_ns: int


class Followed:
    """The stretches of every instrument. `merged`: whether an instrument's sources are all followed at once."""

    def __init__(self, merged: Callable[[str], bool] = lambda _: False) -> None:
        self._merged = merged
        self._stretches: defaultdict[str, list[Stretch]] = defaultdict(list)

    def learn(self, trade: AuditTrade) -> None:
        """Take in a canonical trade; those of an instrument come in their order."""
        if trade.recovered or trade.correction is not None:  # it may be of a source that was left
            return
        known = self._stretches[trade.symbol]
        if known and known[-1].provider == trade.provider:
            last = known[-1]
            last.last_ns, last.received_ns = max(last.last_ns, trade.time_ns), max(last.received_ns, trade.received_ns)
        elif not known or trade.time_ns >= known[-1].first_ns:  # else late, of a stretch that is over
            last_ns = max(trade.time_ns, known[-1].last_ns) if known else trade.time_ns  # they end in order
            known.append(Stretch(trade.provider, trade.time_ns, last_ns, trade.received_ns))

    def instead_of(self, trade: AuditTrade) -> str | None:
        """The source followed when this trade was made, if it is not the trade's own; else None."""
        stretches = self._stretches.get(trade.symbol)
        if not stretches or self._merged(trade.symbol):
            return None
        at = min(bisect_left(stretches, trade.time_ns, key=lambda s: s.last_ns), len(stretches) - 1)
        here = stretches[at]
        if here.provider != trade.provider:
            return here.provider
        before = stretches[at - 1] if at else None
        if before is not None and (
            trade.time_ns <= before.last_ns + HANDOVER_NS or trade.received_ns <= before.received_ns + HANDOVER_NS
        ):
            return before.provider
        if at + 1 < len(stretches) and trade.time_ns >= here.last_ns - HANDOVER_NS:
            return stretches[at + 1].provider
        return None


class Alive:
    """When each source sent frames, in slots of receive time."""

    def __init__(self) -> None:
        self._slots: defaultdict[str, Numbers] = defaultdict(Numbers)

    def add_frame(self, source: str, received_ns: int) -> None:
        """Note that a frame of the source came."""
        self._slots[source].add(received_ns // SLOT_NS)

    def in_or_around(self, source: str, slot: int) -> bool:
        slots = self._slots[source]
        return slot in slots or slot - 1 in slots or slot + 1 in slots


class StandBy:
    """The raw trades that the canonical hop, already read, lacks because another source was followed.

    While the raw hop is read they are only candidates, kept as count and hash by bucket, followed source and slot:
    which sources were alive is known once everything is read.
    """

    def __init__(self, followed: Followed, alive: Alive, canonical: Ledger) -> None:
        self._followed, self._alive, self._canonical = followed, alive, canonical
        self._candidates: defaultdict[tuple[Bucket, str, str, int], Tally] = defaultdict(Tally)

    def consider(self, trade: AuditTrade) -> None:
        """Take in a raw trade, once."""
        source = self._source(trade)
        if source is not None:
            key = (bucket_of(trade), trade.id_space, source, trade.received_ns // SLOT_NS)
            self._candidates[key].take(fingerprint(trade))

    def settle(self, raw: Ledger) -> None:
        """Enter what stood by into the raw ledger, once every frame is read."""
        for (bucket, id_space, source, slot), tally in self._candidates.items():
            if self._alive.in_or_around(source, slot):
                raw.stand_by(bucket, id_space, tally)
        self._candidates.clear()

    def __contains__(self, trade: AuditTrade) -> bool:
        """Whether a raw trade stood by; valid once every frame is read."""
        source = self._source(trade)
        return source is not None and self._alive.in_or_around(source, trade.received_ns // SLOT_NS)

    def _source(self, trade: AuditTrade) -> str | None:
        source = self._followed.instead_of(trade)
        return None if source is None or self._canonical.holds(trade) else source
