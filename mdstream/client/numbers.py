"""Which events a reader has had, and which it has missed: by `seq`, and for bars by `revision`. Pure.

    seq == last + 1    the next one
    seq <= last        a repeat
    seq >  last + 1    a hole of seq - last - 1 events

The first event of a symbol has nothing before it, unless the reader says where it goes on.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

MAX_BARS = 100_000
"""Bars whose revision is remembered: repeats come soon after a crash, or never."""


class Hole(NamedTuple):
    """The numbers [first, last] of a symbol that are missing."""

    symbol: str
    first: int
    last: int

    @property
    def missing(self) -> int:
        return self.last - self.first + 1


class Numbers:
    """The last number of each symbol. `had`: numbers that count as had, with those before them."""

    def __init__(self, had: dict[str, int] | None = None) -> None:
        self._last = dict(had or {})

    def missing_before(self, symbol: str, seq: int) -> int | None:
        """Take in an event: how many numbers are missing just before it. None: it is a repeat."""
        missing = seq - self._last.get(symbol, seq - 1) - 1
        if missing < 0:
            return None
        self._last[symbol] = seq
        return missing


class Revisions:
    """The last revision of each bar, of the `max_bars` that were published last."""

    def __init__(self, max_bars: int = MAX_BARS) -> None:
        self._last: OrderedDict[tuple[str, str, int], int] = OrderedDict()
        self._max_bars = max_bars

    def is_new(self, symbol: str, interval: str, ts_open: int, revision: int) -> bool:
        """Take in a bar. Returns whether no revision like it, or higher, has come."""
        key = symbol, interval, ts_open
        if revision <= self._last.get(key, -1):
            return False
        self._last[key] = revision
        self._last.move_to_end(key)
        if len(self._last) > self._max_bars:
            self._last.popitem(last=False)
        return True
