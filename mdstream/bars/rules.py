"""Which bars are built, from which trades, and for how long they can be revised."""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import NamedTuple

BAR_INTERVAL = r"^[1-9][0-9]{0,3}[smhd]$"
"""The form of an interval's name."""
SECOND_NS = 1_000_000_000
UNITS = {"s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3_600 * SECOND_NS, "d": 86_400 * SECOND_NS}

MAX_KEPT = 300
KEPT_NS = 4 * 3_600 * SECOND_NS
"""Closed bars kept for revision: this many, or those of this time, whichever is less, but at least two."""

AHEAD_NS = 60 * SECOND_NS
"""How far a venue's clock may be ahead of ours. It bounds the open bars, and one bad time cannot close them all."""


class Interval(NamedTuple):
    """One bar length; its last `kept` closed bars can be revised."""

    name: str
    ns: int
    kept: int

    @property
    def window_ns(self) -> int:
        """A trade is too late for a bar that ended this long before the latest time."""
        return self.kept * self.ns

    def slot(self, ts_open: int) -> int:
        """A number, unique among the bars kept or open at the same time; there are a few more numbers than `kept`."""
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
        """Bars of every interval consist of slots of this length."""
        self.window_ns = min(each.window_ns for each in self.intervals)
        """A trade in a slot that ended less than this before the latest time is in time for every interval."""
        self.levels = {each.name: level for level, each in enumerate(self.intervals)}

    def source(self, level: int) -> int | None:
        """The longest shorter interval that divides this one; None: it is built from base slots."""
        ns = self.intervals[level].ns
        return next((shorter for shorter in range(level)[::-1] if ns % self.intervals[shorter].ns == 0), None)
