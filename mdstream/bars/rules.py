"""Which bars are built, of which trades, and for how long they can be revised."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import NamedTuple

SECOND_NS = 1_000_000_000
UNITS = {"s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3_600 * SECOND_NS, "d": 86_400 * SECOND_NS}

MAX_KEPT = 300
KEPT_NS = 4 * 3_600 * SECOND_NS
"""Closed bars are kept for revision: so many, or those of so long, whichever is less, but two at least."""

AHEAD_NS = 60 * SECOND_NS
"""How far a venue's clock may be ahead of ours. It bounds the open bars; and one bad time must not close all others."""


class Interval(NamedTuple):
    """One length of bar; `kept` closed bars of it can be revised."""

    name: str
    ns: int
    kept: int

    @property
    def window_ns(self) -> int:
        """A trade is too late for a bar that ended so long before the latest time."""
        return self.kept * self.ns

    def slot(self, ts_open: int) -> int:
        """A number that no two bars share that are kept or open at the same time; there are a few more than `kept`."""
        return ts_open // self.ns % (self.kept + AHEAD_NS // self.ns + 8)


def interval(name: str) -> Interval:
    """The interval of a name like 1s, 5m, 1h or 1d."""
    ns = int(name[:-1]) * UNITS[name[-1]]
    return Interval(name, ns, min(MAX_KEPT, max(2, KEPT_NS // ns + 1)))


class Rules:
    """The intervals, shortest first, and how long after its end a bar closes."""

    def __init__(self, names: Iterable[str], *, lateness_ns: int) -> None:
        self.intervals = tuple(sorted(map(interval, dict.fromkeys(names)), key=lambda each: each.ns))
        self.lateness_ns = lateness_ns
        self.base_ns = gcd(*(each.ns for each in self.intervals))
        """Every bar of every interval is made of slots of this length."""
        self.window_ns = min(each.window_ns for each in self.intervals)
        """A trade in a slot that ended less than this before the latest time is too late for no interval."""
        self.levels = {each.name: level for level, each in enumerate(self.intervals)}

    def source(self, level: int) -> int | None:
        """The longest shorter interval that this one is made of; None: of base slots."""
        ns = self.intervals[level].ns
        return next((shorter for shorter in range(level)[::-1] if ns % self.intervals[shorter].ns == 0), None)
