"""Which trade ids a backfill is about, and in which parts it asks for them. Pure.

ids      0 ......... first ............................. newest + 1
probed             ^ before `ts`      ^ not before          `Bisection` halves what is between
missing          [____]   [_________]    [___]              `parts`: the wanted ones, a few pages each
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mdstream.venues.spans import Span, within

PAGES = 10
"""Of a part: what is asked for at a time, and what is fetched again at most if the process is killed."""


class Bisection:
    """The lowest id up to `newest` of a trade not made before `ts_ns`; `newest` + 1 if there is none.

    A venue answers a probe with one trade: `newest_first` the newest up to the id, else the oldest from the id on.
    """

    def __init__(self, ts_ns: int, newest: int, *, newest_first: bool) -> None:
        self._ts_ns, self._newest_first = ts_ns, newest_first
        self._low, self._high = 0, newest + 1
        self._none = self._first = newest + 1
        """`_first`: the first trade from `_high` on, as far as it is known."""

    @property
    def found(self) -> int | None:
        """The id; None as long as there is something to probe."""
        return min(self._first, self._none) if self._low == self._high else None

    @property
    def probe(self) -> int:
        """The id to ask for. Only while nothing is found."""
        return (self._low + self._high) // 2

    def answered(self, trade: tuple[int, int] | None) -> None:
        """Take in the answer to the probe: the id and time of a trade, None if there is none on that side of it."""
        probe = self.probe
        if self._newest_first if trade is None else trade[1] < self._ts_ns:
            # Upwards, there is no other trade between the probe and this one.
            there = probe if trade is None or self._newest_first else max(probe, trade[0])
            self._low = min(self._high, there + 1)
        else:
            self._first = self._none if trade is None else trade[0]
            self._high = max(self._low, min(probe, self._first))


def parts(missing: Iterable[Span], wanted: Span, rows: int, *, newest_first: bool) -> Iterator[Span]:
    """The wanted ids that are missing, at most PAGES pages of `rows` at a time, in the order of the venue's pages."""
    spans, size = within(missing, wanted), PAGES * rows
    for first, last in reversed(spans) if newest_first else spans:
        if newest_first:
            yield from (Span(max(first, end - size + 1), end) for end in range(last, first - 1, -size))
        else:
            yield from (Span(begin, min(last, begin + size - 1)) for begin in range(first, last + 1, size))
