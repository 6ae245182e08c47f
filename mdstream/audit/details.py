"""The second pass: the trades of the buckets that differ, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from mdstream.audit.ledger import Ledger
from mdstream.audit.numbering import Contents
from mdstream.audit.trades import AuditTrade, Bucket, Identity, Place, bucket_of, identity_of


@dataclass(slots=True)
class Held:
    """One trade as a hop holds it, and under which numbers; `stood_by`: the next hop does not have it by design."""

    price: float
    size: float
    side: str | None
    seqs: list[int | None] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    stood_by: bool = False

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
    seqs: tuple[int, ...] = ()
    places: tuple[Place, ...] = ()
    """The positions of its records on the topic, if its number is the fault."""


class Details:
    """The trades of the wanted buckets, by id; those in `ignored` are skipped.

    `stood_by` decides which ones the next hop does not have by design.
    """

    def __init__(
        self,
        ledger: Ledger,
        wanted: set[Bucket],
        *,
        may_repeat: bool,
        ignored: Set[Identity] = frozenset(),
        stood_by: Callable[[AuditTrade], bool] = lambda _: False,
    ) -> None:
        self.name = ledger.name
        self._ignored, self._stands_by = ignored, stood_by
        self._ledger, self._wanted, self._may_repeat = ledger, wanted, may_repeat
        self._trades: dict[Bucket, dict[str, Held]] = {bucket: {} for bucket in wanted}
        self._contents = Contents(ledger.numbering.repeated)
        self._rewritten: list[Difference] = []

    def add(self, trade: AuditTrade, seq: int | None = None, place: Place | None = None, value: bytes = b"") -> None:
        """Take in a trade, in the same order as the ledger did, with its record's value if the hop numbers it."""
        if seq is not None:
            self._check(trade, seq, place, value)
        bucket = bucket_of(trade)
        if (
            bucket not in self._wanted
            or not self._ledger.scope.takes(trade, bucket)
            or trade.id_space != self._ledger.id_space(bucket)
            or identity_of(trade) in self._ignored
        ):
            return
        trade_id = trade.trade_id or f"(none) at {trade.time_ns} ns: {trade.side} {trade.size!r} at {trade.price!r}"
        held = self._trades[bucket].get(trade_id)
        if held is None:
            fields = float(trade.price), float(trade.size), trade.side
            held = self._trades[bucket][trade_id] = Held(*fields, stood_by=self._stands_by(trade))
        if seq is None or seq not in held.seqs:
            held.seqs.append(seq)
            if place is not None:
                held.places.append(place)

    def _check(self, trade: AuditTrade, seq: int, place: Place | None, value: bytes) -> None:
        """A repeated number must have the same bytes."""
        first = self._contents.add(trade.symbol, seq, value, place)
        if first is not None:
            where = (trade.provider, trade.symbol, bucket_of(trade).start, trade.trade_id)
            found = f"seq {seq} once", "another record with it"
            places = () if place is None else (first, place)
            self._rewritten.append(Difference("rewritten", self.name, self.name, *where, *found, (seq,), places))

    def of(self, bucket: Bucket) -> Mapping[str, Held]:
        return self._trades[bucket]

    def own_differences(self) -> Iterator[Difference]:
        """The faults within this hop."""
        yield from self._rewritten
        if self._may_repeat:
            return
        for bucket in sorted(self._wanted):
            for trade_id, held in self._trades[bucket].items():
                if len(held.seqs) > 1 and not trade_id.startswith("(none)"):
                    seqs = ", ".join("?" if seq is None else str(seq) for seq in held.seqs[:5])
                    found = f"{len(held.seqs)} times" + ("" if held.seqs[0] is None else f", seq {seqs}")
                    numbers = tuple(seq for seq in held.seqs if seq is not None)
                    where = (self.name, self.name, *_where(bucket), trade_id)
                    yield Difference("doubled", *where, "once", found, numbers, tuple(held.places))


def differences(left: Details, right: Details, buckets: Iterable[Bucket]) -> Iterator[Difference]:
    """The trades that differ between `right` and `left`, the hop before it."""
    for bucket in sorted(buckets):
        before, after = left.of(bucket), right.of(bucket)
        where = (right.name, left.name, *_where(bucket))
        for trade_id, held in before.items():
            other = after.get(trade_id)
            if other is None:
                if not held.stood_by:
                    yield Difference("missing", *where, trade_id, _text(held), "nothing")
            elif other.fields != held.fields:
                yield Difference("different", *where, trade_id, _text(held), _text(other))
        for trade_id in after.keys() - before.keys():
            yield Difference("extra", *where, trade_id, "nothing", _text(after[trade_id]))


def _where(bucket: Bucket) -> tuple[str, str, str]:
    return bucket.provider, bucket.symbol, bucket.start


def _text(held: Held) -> str:
    return f"{held.side or '-'} {held.size!r} at {held.price!r}"
