"""Sets of integers, trade ids or times, as lists of spans: sorted, disjoint, each with both ends included."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

MIN_ID, MAX_ID = 0, 2**63 - 1


class Span(NamedTuple):
    """The ids first..last, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


def count(spans: Iterable[Span]) -> int:
    """The number of ids."""
    return sum(span.last - span.first + 1 for span in spans)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The ids of all spans, in any order and overlap, as the fewest spans."""
    joined: list[Span] = []
    for span in sorted(spans):
        if joined and span.first <= joined[-1].last + 1:
            joined[-1] = Span(joined[-1].first, max(joined[-1].last, span.last))
        else:
            joined.append(span)
    return joined


def within(spans: Iterable[Span], bounds: Span) -> list[Span]:
    """The ids inside `bounds`."""
    cut = (Span(max(span.first, bounds.first), min(span.last, bounds.last)) for span in spans)
    return [span for span in cut if span.first <= span.last]


def without(spans: Sequence[Span], taken: Sequence[Span]) -> list[Span]:
    """The ids not in `taken`."""
    left: list[Span] = []
    at = 0
    for first, last in spans:
        while at < len(taken) and taken[at].last < first:
            at += 1
        begin, look = first, at
        while look < len(taken) and taken[look].first <= last:
            if taken[look].first > begin:
                left.append(Span(begin, taken[look].first - 1))
            begin = taken[look].last + 1
            look += 1
        if begin <= last:
            left.append(Span(begin, last))
    return left


def has(spans: Sequence[Span], one: int) -> bool:
    """Whether an id is in one of the spans."""
    at = bisect_right(spans, Span(one, MAX_ID))
    return at > 0 and spans[at - 1].last >= one


def add(spans: list[Span], span: Span) -> None:
    """Add ids that are in none of the spans, in place."""
    at = bisect_right(spans, span)
    around = slice(max(0, at - 1), at + 1)
    spans[around] = merged([*spans[around], span])
