"""The loss audit: what each hop holds, per instrument and minute, and what got lost, doubled or changed in between.

    journal ──> raw topic ──> canonical topic ──> database          a Ledger each: count and hash per bucket
                     └── buckets that differ ──┘                    read again: a Details each, trade by trade

The first pass keeps no trade: a count and a sum of hashes per bucket, whatever the order they come in, and which ids
and sequence numbers were seen, as intervals. Only buckets that differ are looked at trade by trade. No I/O here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import pairwise
from typing import Literal, NamedTuple

MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
NO_VIEW = ""
MASK = (1 << 64) - 1
MOST_CHECKED_REPEATS = 100_000


class Print(NamedTuple):
    """One trade as a hop holds it. `time_ns` is the venue's time, ours where it gives none; `view` as in TradeTick."""

    provider: str
    symbol: str
    trade_id: str
    price: float
    size: float
    side: str | None
    time_ns: int
    view: str = NO_VIEW


class Bucket(NamedTuple):
    """One instrument's trades in one minute: [minute, minute + 1) in minutes since 1970."""

    provider: str
    symbol: str
    minute: int

    @property
    def start(self) -> str:
        return datetime.fromtimestamp(self.minute * 60, UTC).strftime("%Y-%m-%dT%H:%MZ")


Identity = tuple[str, str, str, int]
"""Provider, symbol, trade id and the venue's time: what makes two prints the same trade."""


def bucket_of(trade: Print) -> Bucket:
    return Bucket(trade.provider, trade.symbol, trade.time_ns // MINUTE_NS)


def identity_of(trade: Print) -> Identity:
    return trade.provider, trade.symbol, trade.trade_id, trade.time_ns


def fingerprint(trade: Print) -> int:
    """64 bits of what must be the same at every hop."""
    price, size = float(trade.price), float(trade.size)
    return _hash(f"{trade.provider}|{trade.symbol}|{trade.trade_id}|{price!r}|{size!r}|{trade.side}")


@dataclass(frozen=True)
class Scope:
    """What is audited: minutes [first, end), and instruments and providers, all where empty."""

    first_minute: int = 0
    end_minute: int = 1 << 62
    symbols: frozenset[str] = frozenset()
    providers: frozenset[str] = frozenset()

    def has(self, trade: Print) -> bool:
        return (
            self.first_minute <= trade.time_ns // MINUTE_NS < self.end_minute
            and (not self.symbols or trade.symbol in self.symbols)
            and (not self.providers or trade.provider in self.providers)
        )


# -------------------------------------------------------------------------------------------------------- what was seen


class Numbers:
    """A set of integers that takes memory per run of neighbours, not per number: venues and `seq` count by one."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def add(self, number: int) -> bool:
        """Take it in; whether it is new."""
        first, last = self._first, self._last
        at = bisect_right(first, number)  # the run that may hold it is the one before
        if at and number <= last[at - 1]:
            return False
        after_one, before_one = at > 0 and last[at - 1] == number - 1, at < len(first) and first[at] == number + 1
        if after_one and before_one:  # the last number of a hole
            last[at - 1] = last[at]
            del first[at], last[at]
        elif after_one:
            last[at - 1] = number
        elif before_one:
            first[at] = number
        else:
            first.insert(at, number)
            last.insert(at, number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number)
        return at > 0 and number <= self._last[at - 1]

    def holes(self) -> Iterator[tuple[int, int]]:
        """(first, last) of each run of numbers that is missing between those seen."""
        for ended, begins in zip(self._last, self._first[1:], strict=False):
            yield ended + 1, begins - 1


class Ids:
    """A set of trade ids: plain numbers as Numbers, others by a 64-bit hash each."""

    __slots__ = ("_numbers", "_others")

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._others: set[int] = set()

    def add(self, trade_id: str) -> bool:
        """Take it in; whether it is new."""
        if _is_number(trade_id):
            return self._numbers.add(int(trade_id))
        hashed = _hash(trade_id)
        if hashed in self._others:
            return False
        self._others.add(hashed)
        return True

    def __contains__(self, trade_id: str) -> bool:
        return int(trade_id) in self._numbers if _is_number(trade_id) else _hash(trade_id) in self._others


def _is_number(trade_id: str) -> bool:
    """Whether the id is a number in the one way to write it: "07" is another id than "7"."""
    return trade_id.isascii() and trade_id.isdigit() and len(trade_id) <= 18 and (trade_id[0] != "0" or trade_id == "0")


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


# ----------------------------------------------------------------------------------------------------------- first pass


@dataclass(slots=True)
class Tally:
    """One bucket: trades by identity, and the sum of their hashes; beside it what came more than once."""

    count: int = 0
    digest: int = 0
    repeats: int = 0
    doubled: int = 0

    def same(self, other: Tally) -> bool:
        """Whether both hold the same trades."""
        return self.count == other.count and self.digest == other.digest


NOTHING = Tally()


class Ledger:
    """What one hop holds. `may_repeat`: a trade that comes again counts once (raw), else it is doubled (canonical)."""

    def __init__(self, name: str, scope: Scope, *, may_repeat: bool) -> None:
        self.name, self._scope, self._may_repeat = name, scope, may_repeat
        self._tallies: dict[Bucket, dict[str, Tally]] = {}
        # By day: the ids of some venues begin anew, and what is the same trade has the same time.
        self._ids: defaultdict[tuple[str, str, str, int], Ids] = defaultdict(Ids)
        self._seqs: defaultdict[str, Numbers] = defaultdict(Numbers)
        self._views: dict[Bucket, str] = {}
        self.set_aside: dict[tuple[str, str, str], int] = {}
        """Trades of a view that is not compared, by (provider, symbol, view)."""
        self.repeated: dict[tuple[str, int], int] = {}
        """Hash of the record that came again with (symbol, seq): it must be the first one's (Details.check)."""

    def add(self, trade: Print, seq: int | None = None, record_hash: int = 0) -> None:
        """Take in a trade; `seq` where the hop numbers its trades, with the hash of its record."""
        again = False
        if seq is not None and (not self._scope.symbols or trade.symbol in self._scope.symbols):
            # Before the scope is asked: numbers run through all minutes and providers of a symbol.
            again = not self._seqs[trade.symbol].add(seq)
            if again and len(self.repeated) < MOST_CHECKED_REPEATS:
                self.repeated[trade.symbol, seq] = record_hash
        if not self._scope.has(trade):
            return
        tally = self._tallies.setdefault(bucket_of(trade), {}).setdefault(trade.view, Tally())
        if self._is_new(trade, again):
            tally.count += 1
            tally.digest = (tally.digest + fingerprint(trade)) & MASK
        elif again or self._may_repeat:
            tally.repeats += 1
        else:
            tally.doubled += 1

    def _is_new(self, trade: Print, again: bool) -> bool:
        if not trade.trade_id:  # nothing tells two of them apart but a number
            return not again
        return self._ids[_id_space(trade)].add(trade.trade_id)

    def holds(self, trade: Print) -> bool:
        """Whether a trade of this identity is here; one of a hop that knows no views counts for any."""
        spaces = {_id_space(trade), _id_space(trade._replace(view=NO_VIEW))}
        return any(trade.trade_id in self._ids[space] for space in spaces if space in self._ids)

    def discount(self, trade: Print) -> None:
        """Take a trade back out of its bucket, if it is here: it is not to be compared."""
        tally = self._tallies.get(bucket_of(trade), {}).get(trade.view)
        if tally is not None and _id_space(trade) in self._ids and trade.trade_id in self._ids[_id_space(trade)]:
            tally.count -= 1
            tally.digest = (tally.digest - fingerprint(trade)) & MASK

    def choose_views(self, like: Ledger | None) -> None:
        """Where a venue gave an instrument's trades in several views, take the one that the next hop took.

        That is, in each minute the view whose trades are those of `like`; else the view that agrees in most minutes;
        else the one with the most trades. What is not taken is in `set_aside`.
        """
        agreed: Counter[tuple[str, str, str]] = Counter()
        traded: Counter[tuple[str, str, str]] = Counter()
        for bucket, views in self._tallies.items():
            for view, tally in views.items():
                key = (bucket.provider, bucket.symbol, view)
                traded[key] += tally.count
                if like is not None and tally.same(like.tally(bucket)):
                    agreed[key] += 1
                    self._views[bucket] = view
        best: dict[tuple[str, str], str] = {}
        for provider, symbol, view in sorted(traded, key=lambda key: (agreed[key], traded[key])):
            best[provider, symbol] = view
        for bucket, views in self._tallies.items():
            taken = self._views.setdefault(bucket, best[bucket.provider, bucket.symbol])
            for view, tally in views.items():
                if view != taken:
                    key = (bucket.provider, bucket.symbol, view)
                    self.set_aside[key] = self.set_aside.get(key, 0) + tally.count

    def view(self, bucket: Bucket) -> str:
        """The view that is compared in a bucket."""
        return self._views.get(bucket, NO_VIEW)

    def tally(self, bucket: Bucket) -> Tally:
        """What is compared of a bucket, in the chosen view."""
        return self._tallies.get(bucket, {}).get(self.view(bucket), NOTHING)

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

    def holes(self) -> Iterator[tuple[str, int, int]]:
        """(symbol, first, last) of the sequence numbers that are missing between those seen."""
        for symbol in sorted(self._seqs):
            for first, last in self._seqs[symbol].holes():
                yield symbol, first, last


def _id_space(trade: Print) -> tuple[str, str, str, int]:
    return trade.provider, trade.symbol, trade.view, trade.time_ns // DAY_NS


def differing(hops: list[Ledger]) -> set[Bucket]:
    """The buckets in which neighbouring hops do not hold the same trades, or a hop holds one twice."""
    found = {bucket for hop in hops for bucket in hop.buckets() if hop.tally(bucket).doubled}
    for left, right in pairwise(hops):
        for bucket in {*left.buckets(), *right.buckets()}:
            if not left.tally(bucket).same(right.tally(bucket)):
                found.add(bucket)
    return found


def affordable(hops: list[Ledger], buckets: set[Bucket], most_trades: int) -> set[Bucket]:
    """As many of the buckets, the earliest first, as hold no more than `most_trades` at the hop that has most."""
    taken: set[Bucket] = set()
    for bucket in sorted(buckets, key=lambda bucket: (bucket.minute, bucket)):
        most_trades -= max(hop.tally(bucket).count + hop.tally(bucket).doubled for hop in hops)
        if most_trades < 0 and taken:
            break
        taken.add(bucket)
    return taken


# ---------------------------------------------------------------------------------------------------------- second pass


@dataclass(slots=True)
class Held:
    """One trade as a hop holds it, and under how many numbers."""

    price: float
    size: float
    side: str | None
    seqs: list[int | None] = field(default_factory=list)

    @property
    def fields(self) -> tuple[float, float, str | None]:
        return self.price, self.size, self.side


Kind = Literal["missing", "extra", "different", "doubled", "rewritten"]


class Difference(NamedTuple):
    """One trade that a hop does not hold as the hop before does.

    `missing`: not there; `extra`: there, but not at the hop before; `different`: another price, size or side;
    `doubled`: there under several numbers; `rewritten`: its number came again with another record.
    """

    kind: Kind
    hop: str
    before: str
    provider: str
    symbol: str
    minute: str
    trade_id: str
    expected: str
    found: str


class Details:
    """The trades of the buckets that are looked at, by id; those in `ignored` are passed over."""

    def __init__(
        self, ledger: Ledger, wanted: set[Bucket], *, may_repeat: bool, ignored: Set[Identity] = frozenset()
    ) -> None:
        self.name = ledger.name
        self._ignored = ignored
        self._ledger, self._wanted, self._may_repeat = ledger, wanted, may_repeat
        self._trades: dict[Bucket, dict[str, Held]] = {bucket: {} for bucket in wanted}
        self._first_hash: dict[tuple[str, int], int] = {}
        self._rewritten: list[Difference] = []

    def add(self, trade: Print, seq: int | None = None, record_hash: int = 0) -> None:
        """Take in a trade, in the same order as the ledger did."""
        if seq is not None:
            self._check(trade, seq, record_hash)
        bucket = bucket_of(trade)
        if bucket not in self._wanted or trade.view != self._ledger.view(bucket) or identity_of(trade) in self._ignored:
            return
        trade_id = trade.trade_id or f"(none) at {trade.time_ns} ns: {trade.side} {trade.size!r} at {trade.price!r}"
        held = self._trades[bucket].setdefault(trade_id, Held(float(trade.price), float(trade.size), trade.side))
        if seq is None or seq not in held.seqs:
            held.seqs.append(seq)

    def _check(self, trade: Print, seq: int, record_hash: int) -> None:
        """A number that came again must have come with the same bytes."""
        key = (trade.symbol, seq)
        if key in self._ledger.repeated and self._first_hash.setdefault(key, record_hash) != record_hash:
            bucket = bucket_of(trade)
            where = (trade.provider, trade.symbol, bucket.start, trade.trade_id)
            self._rewritten.append(
                Difference("rewritten", self.name, self.name, *where, f"seq {seq} once", "another record with it")
            )

    def of(self, bucket: Bucket) -> Mapping[str, Held]:
        return self._trades[bucket]

    def own_differences(self) -> Iterator[Difference]:
        """What is wrong at this hop by itself."""
        yield from self._rewritten
        if self._may_repeat:
            return
        for bucket in sorted(self._wanted):
            for trade_id, held in self._trades[bucket].items():
                if len(held.seqs) > 1 and not trade_id.startswith("(none)"):
                    seqs = ", ".join("?" if seq is None else str(seq) for seq in held.seqs[:5])
                    found = f"{len(held.seqs)} times" + ("" if held.seqs[0] is None else f", seq {seqs}")
                    yield Difference("doubled", self.name, self.name, *_where(bucket), trade_id, "once", found)


def differences(left: Details, right: Details, buckets: Iterable[Bucket]) -> Iterator[Difference]:
    """What `right` does not hold as `left`, the hop before it, does."""
    for bucket in sorted(buckets):
        before, after = left.of(bucket), right.of(bucket)
        where = (right.name, left.name, *_where(bucket))
        for trade_id, held in before.items():
            other = after.get(trade_id)
            if other is None:
                yield Difference("missing", *where, trade_id, _text(held), "nothing")
            elif other.fields != held.fields:
                yield Difference("different", *where, trade_id, _text(held), _text(other))
        for trade_id in after.keys() - before.keys():
            yield Difference("extra", *where, trade_id, "nothing", _text(after[trade_id]))


def _where(bucket: Bucket) -> tuple[str, str, str]:
    return bucket.provider, bucket.symbol, bucket.start


def _text(held: Held) -> str:
    return f"{held.side or '-'} {held.size!r} at {held.price!r}"
