"""The numbers (`seq`) of an instrument's trades, quotes and books, as a sink sees them.

A number stands for one event forever. If two writers number the same instrument, or one that lost its checkpoint
reuses numbers, a sink gets a number that it holds with another content. It cannot know which of the two is right: if
both would have the same place it keeps the first, and it reports the conflict.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable

log = logging.getLogger(__name__)

QUIET_S = 60.0
"""At most one log line per instrument in this time."""


class Numbers:
    """The highest number seen of each instrument and kind of event."""

    def __init__(self) -> None:
        self._highest: defaultdict[Hashable, dict[str, int]] = defaultdict(dict)

    def rise(self, kind: Hashable, numbers: Iterable[tuple[str, int]]) -> bool:
        """Whether each number, given with its symbol, is above all that came before it; one that is not was seen
        before, with this content or another."""
        highest = self._highest[kind]
        rising = True
        for symbol, number in numbers:
            if number > highest.get(symbol, -1):
                highest[symbol] = number
            else:
                rising = False
        return rising


class Conflicts:
    """Counts and logs the events whose number is stored with another content. `sink` is the sink's name."""

    def __init__(self, sink: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._sink, self._now_s = sink, now_s
        self._said_s: dict[str, float] = {}
        self.total = 0

    def found(self, numbers: Iterable[tuple[str, int]]) -> None:
        """Take the conflicts of one write: symbol and number of each."""
        lowest: dict[str, int] = {}
        count: Counter[str] = Counter()
        for symbol, number in numbers:
            count[symbol] += 1
            lowest[symbol] = min(number, lowest.get(symbol, number))
        self.total += count.total()
        for symbol, number in lowest.items():
            self._say(symbol, number, count[symbol])

    def _say(self, symbol: str, number: int, count: int) -> None:
        now_s = self._now_s()
        if now_s - self._said_s.get(symbol, -QUIET_S) < QUIET_S:
            return
        self._said_s[symbol] = now_s
        log.error(
            "%s: %s: %d events have a number (seq) that is stored with another content, the first is %d: "
            "does something else write to the canonical topics, or was a checkpoint lost? `mdstream audit` shows more",
            self._sink, symbol, count, number,
        )  # fmt: skip
