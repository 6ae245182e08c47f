"""The first pass: what a hop holds, by count and hash per bucket. No trade is kept."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mdstream.audit.numbering import Numbering
from mdstream.audit.seen import Ids
from mdstream.audit.trades import DAY_NS, NO_ID_SPACE, AuditTrade, Bucket, Place, Scope, bucket_of, fingerprint

MASK = (1 << 64) - 1


@dataclass(slots=True)
class Tally:
    """One bucket: the number of trades by identity, the sum of their hashes, and how many came more than once."""

    count: int = 0
    digest: int = 0
    repeats: int = 0
    doubled: int = 0

    def take(self, fingerprint: int) -> None:
        """Count one trade."""
        self.count += 1
        self.digest = (self.digest + fingerprint) & MASK

    def same(self, other: Tally) -> bool:
        """Whether both hold the same trades."""
        return self.count == other.count and self.digest == other.digest

    def without(self, other: Tally) -> Tally:
        """This tally minus the trades of another."""
        return Tally(self.count - other.count, (self.digest - other.digest) & MASK)


NOTHING = Tally()


class Ledger:
    """What one hop holds. `may_repeat`: a trade that comes again counts once (raw), else it is doubled (canonical).

    `is_end`: no hop follows it; the hops after it in the list follow the same hop as it does.
    """

    def __init__(self, name: str, scope: Scope, *, may_repeat: bool, is_end: bool = False) -> None:
        self.name, self.scope, self._may_repeat, self.is_end = name, scope, may_repeat, is_end
        self._tallies: dict[Bucket, dict[str, Tally]] = {}
        self._stood_by: dict[Bucket, dict[str, Tally]] = {}
        # By day: some venues restart their ids, and the same trade has the same time.
        self._ids: defaultdict[tuple[str, str, str, int], Ids] = defaultdict(Ids)
        self.numbering = Numbering(scope)
        self._id_spaces: dict[Bucket, str] = {}
        self.set_aside: dict[tuple[str, str, str], int] = {}
        """Trades of an id space that is not compared, by (provider, symbol, id space)."""

    def add(self, trade: AuditTrade, seq: int | None = None, place: Place | None = None) -> bool:
        """Take in a trade, its `seq` if the hop has one, and its record's place. Returns whether it counts.

        A correction has a number, and is no trade: a venue's journal has none of them.
        """
        bucket, again = bucket_of(trade), False
        if seq is not None and (not self.scope.symbols or trade.symbol in self.scope.symbols):
            # Before the scope check: numbers run through all minutes and providers of a symbol.
            again = not self.numbering.add(trade.symbol, seq, bucket.minute, place)
        if trade.correction is not None or not self.scope.takes(trade, bucket):
            return False
        tally = self._tallies.setdefault(bucket, {}).setdefault(trade.id_space, Tally())
        if self._is_new(trade, again):
            tally.take(fingerprint(trade))
            return True
        if again or self._may_repeat:
            tally.repeats += 1
        else:
            tally.doubled += 1
        return False

    def _is_new(self, trade: AuditTrade, again: bool) -> bool:
        if not trade.trade_id:  # only a number distinguishes two of them
            return not again
        return self._ids[_id_space(trade)].add(trade.trade_id)

    def holds(self, trade: AuditTrade) -> bool:
        """Whether a trade of this identity is here; at a hop without id spaces it counts for any."""
        spaces = {_id_space(trade), _id_space(trade._replace(id_space=NO_ID_SPACE))}
        return any(trade.trade_id in self._ids[space] for space in spaces if space in self._ids)

    def stand_by(self, bucket: Bucket, id_space: str, stood_by: Tally) -> None:
        """Add to those trades of a bucket that the next hop lacks by design: another source was followed."""
        held = self._stood_by.setdefault(bucket, {}).setdefault(id_space, Tally())
        held.count += stood_by.count
        held.digest = (held.digest + stood_by.digest) & MASK

    def discount(self, trade: AuditTrade) -> None:
        """Remove a trade from its bucket, if it is here: it is not compared."""
        tally = self._tallies.get(bucket_of(trade), {}).get(trade.id_space)
        if tally is not None and _id_space(trade) in self._ids and trade.trade_id in self._ids[_id_space(trade)]:
            tally.count -= 1
            tally.digest = (tally.digest - fingerprint(trade)) & MASK

    def choose_id_spaces(self, like: Ledger | None) -> None:
        """If a venue gave an instrument's trades in several id spaces, choose the one that the next hop took.

        That is, in each minute the one whose trades are those of `like`; else the one that agrees in most minutes; else
        the one with the most trades. The others go to `set_aside`.
        """
        agreed: Counter[tuple[str, str, str]] = Counter()
        traded: Counter[tuple[str, str, str]] = Counter()
        for bucket, id_spaces in self._tallies.items():
            for id_space, tally in id_spaces.items():
                key = (bucket.provider, bucket.symbol, id_space)
                traded[key] += tally.count
                if like is not None and self._due(bucket, id_space).same(like.tally(bucket)):
                    agreed[key] += 1
                    self._id_spaces[bucket] = id_space
        best: dict[tuple[str, str], str] = {}
        for provider, symbol, id_space in sorted(traded, key=lambda key: (agreed[key], traded[key])):
            best[provider, symbol] = id_space
        for bucket, id_spaces in self._tallies.items():
            taken = self._id_spaces.setdefault(bucket, best[bucket.provider, bucket.symbol])
            for id_space, tally in id_spaces.items():
                if id_space != taken:
                    key = (bucket.provider, bucket.symbol, id_space)
                    self.set_aside[key] = self.set_aside.get(key, 0) + tally.count

    def id_space(self, bucket: Bucket) -> str:
        """The id space that is compared in a bucket."""
        return self._id_spaces.get(bucket, NO_ID_SPACE)

    def tally(self, bucket: Bucket) -> Tally:
        """The trades of a bucket that are compared, in the chosen id space."""
        return self._tallies.get(bucket, {}).get(self.id_space(bucket), NOTHING)

    def due(self, bucket: Bucket) -> Tally:
        """What the next hop must have of a bucket."""
        return self._due(bucket, self.id_space(bucket))

    def _due(self, bucket: Bucket, id_space: str) -> Tally:
        tally = self._tallies.get(bucket, {}).get(id_space, NOTHING)
        stood_by = self._stood_by.get(bucket, {}).get(id_space)
        return tally if stood_by is None else tally.without(stood_by)

    def buckets(self) -> Iterable[Bucket]:
        return self._tallies.keys()

    def total(self) -> Tally:
        """All buckets together."""
        total = Tally()
        for tally in map(self.tally, self._tallies):
            total.count += tally.count
            total.digest = (total.digest + tally.digest) & MASK
            total.repeats += tally.repeats
            total.doubled += tally.doubled
        return total

    def stood_by(self) -> int:
        """Trades that the next hop lacks by design, in the id spaces that are compared."""
        return sum(
            id_spaces[self.id_space(bucket)].count
            for bucket, id_spaces in self._stood_by.items()
            if self.id_space(bucket) in id_spaces
        )


def _id_space(trade: AuditTrade) -> tuple[str, str, str, int]:
    return trade.provider, trade.symbol, trade.id_space, trade.time_ns // DAY_NS


def neighbours(hops: Sequence[Ledger]) -> Iterator[tuple[int, int]]:
    """Pairs of neighbouring hops, by position: each hop with the last hop before it that is not an end."""
    before: int | None = None
    for at, hop in enumerate(hops):
        if before is not None:
            yield before, at
        if not hop.is_end:
            before = at


def differing(hops: Sequence[Ledger]) -> set[Bucket]:
    """The buckets in which neighbouring hops do not hold the same trades, or a hop holds one twice."""
    found = {bucket for hop in hops for bucket in hop.buckets() if hop.tally(bucket).doubled}
    for before, after in neighbours(hops):
        left, right = hops[before], hops[after]
        for bucket in {*left.buckets(), *right.buckets()}:
            if not left.due(bucket).same(right.tally(bucket)):
                found.add(bucket)
    return found


def affordable(hops: list[Ledger], buckets: set[Bucket], max_trades: int) -> set[Bucket]:
    """As many buckets, earliest first, as hold at most `max_trades` at the hop with the most; at least one."""
    taken: set[Bucket] = set()
    for bucket in sorted(buckets, key=lambda bucket: (bucket.minute, bucket)):
        max_trades -= max(hop.tally(bucket).count + hop.tally(bucket).doubled for hop in hops)
        if max_trades < 0 and taken:
            break
        taken.add(bucket)
    return taken
