"""Events without an identity of their own, quotes and books: those of two prefixes, by count and hash per minute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Literal, NamedTuple

from mdstream.audit.ledger import NOTHING, Tally
from mdstream.audit.seen import Numbers
from mdstream.audit.trades import Bucket, Scope


class EventTally:
    """One kind of event under one prefix. An event that comes again with its number is a repeat and counts once."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._tallies: dict[Bucket, Tally] = {}
        self._seqs: defaultdict[str, Numbers] = defaultdict(Numbers)

    def add(self, bucket: Bucket, seq: int, content_hash: int) -> None:
        """Take in an event; the hash is of everything but its number."""
        if self._seqs[bucket.symbol].add(seq) and self._scope.has(bucket):
            self._tallies.setdefault(bucket, Tally()).take(content_hash)

    def of(self, bucket: Bucket) -> Tally:
        return self._tallies.get(bucket, NOTHING)

    def buckets(self) -> Iterable[Bucket]:
        return self._tallies.keys()


Verdict = Literal["identical", "different", "only here", "only there"]


class Minute(NamedTuple):
    """One instrument-minute, with the events on either side."""

    bucket: Bucket
    verdict: Verdict
    here: int
    there: int


def compare(here: EventTally, there: EventTally) -> list[Minute]:
    """Every instrument-minute that either side has, in order."""
    minutes = []
    for bucket in sorted({*here.buckets(), *there.buckets()}, key=lambda b: (b.minute, b)):
        left, right = here.of(bucket), there.of(bucket)
        verdict: Verdict = "identical" if left.same(right) else "different"
        if not (left.count and right.count):
            verdict = "only here" if left.count else "only there"
        minutes.append(Minute(bucket, verdict, left.count, right.count))
    return minutes
