"""Which times a backfill is about, and in which windows it asks for them. Pure. Times are ns since 1970.

time     start                              end   now
asked      [____________________________]          `asked`: intervals that are over, whole ones
missing    [______]        [____________]          as the stream says; `cut`: as far back as the venue has bars
windows    [__][__]        [__][__][__][]          `windows`: what one answer holds
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from mdstream.bars.rules import interval
from mdstream.venues import spans
from mdstream.venues.spans import Span
from mdstream.venues.timed import TRADES, Timed
from mdstream.venues.times import iso_of

SETTLED_NS = 10_000_000_000
"""What is more recent is not asked for: a venue's clock may differ from ours, and its last trades may come late."""


class Times(NamedTuple):
    """The time from `begin` to before `end`."""

    begin: int
    end: int

    def __str__(self) -> str:
        return f"{short(self.begin)} to {short(self.end)}"


def short(ns: int) -> str:
    """A time without the zeros at its end: 2026-01-05T15:00:00Z."""
    whole, _, rest = iso_of(ns).removesuffix("Z").partition(".")
    return f"{whole}{f'.{rest}'.rstrip('0').rstrip('.')}Z"


def unit_ns(name: str) -> int:
    """The length of an interval; 1 for trades."""
    return 1 if name == TRADES else interval(name).ns


def asked(name: str, times: Times, now_ns: int) -> Times:
    """The whole intervals of a time that are over, from 1970 on; empty if its end is not above its beginning."""
    each = unit_ns(name)
    begin, end = -(-max(0, times.begin) // each) * each, min(times.end, now_ns - SETTLED_NS) // each * each
    return Times(begin, max(begin, end))


def oldest_ns(timed: Timed, name: str, now_ns: int) -> int:
    """The beginning of the oldest bar of an interval that the venue has."""
    if name == TRADES or timed.reach_ns is None:
        return 0
    if timed.reach_ns == 0:
        return max(0, now_ns - timed.bars.rows * unit_ns(name))
    return max(0, now_ns - timed.reach_ns) if name in timed.near else 0


def cut(missing: Iterable[tuple[int, int]], name: str, at_ns: int) -> tuple[list[Times], list[Times]]:
    """The missing times before the first whole interval from `at_ns` on, and those from it on."""
    at = -(-at_ns // unit_ns(name)) * unit_ns(name)
    older = [Times(begin, min(end, at)) for begin, end in missing if begin < at]
    return older, [Times(max(begin, at), end) for begin, end in missing if end > at]


def windows(missing: Iterable[Times], name: str, rows: int) -> Iterator[Times]:
    """The missing times, oldest first, at most `rows` intervals each; those of trades as they are."""
    for begin, end in missing:
        size = end - begin if name == TRADES else rows * unit_ns(name)
        yield from (Times(at, min(end, at + size)) for at in range(begin, end, size))


def count(spans: Iterable[Times], name: str) -> int:
    """The number of intervals."""
    return sum(end - begin for begin, end in spans) // unit_ns(name)


def without(window: Times, present: Iterable[int], name: str) -> list[Times]:
    """The parts of a window without an interval that begins at one of the times."""
    each = unit_ns(name)
    return left([window], [Times(begin, begin + each) for begin in present])


class Ranges:
    """Times in rising order, joined where they touch: the first `most` of them, and how many there are in all."""

    def __init__(self, most: int) -> None:
        self.first: list[Times] = []
        self.total = 0
        self._most = most
        self._end = -1

    def add(self, times: Times) -> None:
        """Add what lies behind all that was added before."""
        if times.begin == self._end and self.total <= self._most:
            self.first[-1] = Times(self.first[-1].begin, times.end)
        elif times.begin != self._end:
            self.total += 1
            if self.total <= self._most:
                self.first.append(times)
        self._end = times.end


def left(missing: Iterable[tuple[int, int]], excused: Iterable[Times]) -> list[Times]:
    """The missing times that no one of the others has."""
    found = spans.without(_spans(missing), spans.merged(_spans(excused)))
    return [Times(first, last + 1) for first, last in found]


def _spans(times: Iterable[tuple[int, int]]) -> list[Span]:
    return [Span(begin, end - 1) for begin, end in times if begin < end]
