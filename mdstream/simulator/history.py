"""Recent trades for the venues' REST endpoints: 33 bytes a fill, the oldest forgotten first. Pure.

    History   shares a number of fills among the instruments that trade
    Tape      the last fills of one instrument, and what its aggregates span

Ids of fills and of aggregates both count up by one, so the position on the tape gives the id.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

MAX_FILLS = 2_000_000
"""For all instruments together: about 70 MB, and three minutes of 20,000 frames/s."""
_BUY, _GONE = 1, 2


class Fill(NamedTuple):
    """One fill: the smallest thing that a venue reports as a trade."""

    trade_id: int
    ts_ns: int
    buy: bool
    ticks: int
    lots: int


class Aggregate(NamedTuple):
    """The fills first_id..last_id (both included) of one order at one price; `lots` is their sum."""

    trade_id: int
    first_id: int
    last_id: int
    ts_ns: int
    buy: bool
    ticks: int
    lots: int


class Span(Protocol):
    """The fields of a trade that a tape needs."""

    @property
    def first_id(self) -> int: ...
    @property
    def ticks(self) -> int: ...
    @property
    def lots(self) -> int: ...


class Tape:
    """The last `most` fills (an eighth more at times) of one instrument, whose ids begin at `first_id`."""

    def __init__(self, history: History, first_id: int) -> None:
        self._history = history
        self._joined = False
        self.most = 0
        self.restart(first_id)

    def restart(self, first_id: int) -> None:
        """Forget everything; the next fill and the next aggregate get this id."""
        self._first_fill = self._first_aggregate = first_id
        self._ts_ns, self._ticks, self._lots = array("q"), array("q"), array("q")
        self._flags = bytearray()
        self._lossless = True
        self._begins = array("q")
        """The id of each aggregate's first fill."""

    def __len__(self) -> int:
        return len(self._flags)

    @property
    def first_id(self) -> int:
        """Id of the oldest remembered fill."""
        return self._first_fill

    @property
    def next_id(self) -> int:
        """Id that the next fill gets."""
        return self._first_fill + len(self._flags)

    @property
    def next_aggregate_id(self) -> int:
        """Id that the next aggregate gets."""
        return self._first_aggregate + len(self._begins)

    def add(self, ts_ns: int, buy: bool, fills: Sequence[Span], merged: Sequence[Span]) -> None:
        """Remember one order: its fills, and the same fills merged by price."""
        for fill in fills:
            self._ts_ns.append(ts_ns)
            self._ticks.append(fill.ticks)
            self._lots.append(fill.lots)
            self._flags.append(_BUY if buy else 0)
        for trade in merged:
            self._begins.append(trade.first_id)
        if not self._joined:
            self._joined = True
            self._history.join(self)
        if len(self._flags) > self.most + self.most // 8:
            self.trim()

    def trim(self) -> None:
        """Forget all but the last `most` fills, and every aggregate that loses one."""
        gone = len(self._flags) - self.most
        if gone <= 0:
            return
        for column in (self._ts_ns, self._ticks, self._lots, self._flags):
            del column[:gone]
        self._first_fill += gone
        cut = bisect_left(self._begins, self._first_fill)
        del self._begins[:cut]
        self._first_aggregate += cut

    def remove(self, first_id: int, last_id: int) -> None:
        """Remove the fills first_id..last_id (both included) for good, and every aggregate of one of them."""
        for place in self._places(first_id, last_id):
            self._flags[place] |= _GONE
            self._lossless = False

    def has_lost(self, first_id: int, last_id: int) -> bool:
        """Whether a fill of an id range (both included) was removed."""
        return not self._lossless and any(self._flags[place] & _GONE for place in self._places(first_id, last_id))

    def fills(self, first_id: int, last_id: int) -> Iterator[Fill]:
        """The fills of an id range (both included) that are still known, oldest first."""
        return (self._fill(place) for place in self._places(first_id, last_id) if not self._flags[place] & _GONE)

    def fills_back(self, last_id: int) -> Iterator[Fill]:
        """The fills up to an id, newest first."""
        places = reversed(self._places(self._first_fill, last_id))
        return (self._fill(place) for place in places if not self._flags[place] & _GONE)

    def aggregates(self, first_id: int) -> Iterator[Aggregate]:
        """The aggregates from an aggregate id on, oldest first."""
        return self._known(range(max(0, first_id - self._first_aggregate), len(self._begins)))

    def aggregates_back(self, last_id: int) -> Iterator[Aggregate]:
        """The aggregates up to an aggregate id, newest first."""
        return self._known(range(min(last_id - self._first_aggregate, len(self._begins) - 1), -1, -1))

    def id_at(self, ts_ns: int) -> int:
        """Id of the first fill at that time or later; `next_id` if there is none."""
        return self._first_fill + bisect_left(self._ts_ns, ts_ns)

    def aggregate_at(self, ts_ns: int) -> int:
        """Id of the first aggregate at that time or later; `next_aggregate_id` if there is none."""
        return self._first_aggregate + bisect_left(self._begins, self.id_at(ts_ns))

    def _places(self, first_id: int, last_id: int) -> range:
        return range(max(0, first_id - self._first_fill), min(last_id + 1 - self._first_fill, len(self._flags)))

    def _fill(self, place: int) -> Fill:
        buy = bool(self._flags[place] & _BUY)
        return Fill(self._first_fill + place, self._ts_ns[place], buy, self._ticks[place], self._lots[place])

    def _known(self, places: range) -> Iterator[Aggregate]:
        return (found for place in places if (found := self._aggregate(place)) is not None)

    def _aggregate(self, place: int) -> Aggregate | None:
        """The aggregate at a position; None if one of its fills is lost."""
        first = self._begins[place]
        last = (self._begins[place + 1] if place + 1 < len(self._begins) else self.next_id) - 1
        begin, end = first - self._first_fill, last + 1 - self._first_fill
        if any(flags & _GONE for flags in self._flags[begin:end]):
            return None
        buy, lots = bool(self._flags[begin] & _BUY), sum(self._lots[begin:end])
        number = self._first_aggregate + place
        return Aggregate(number, first, last, self._ts_ns[begin], buy, self._ticks[begin], lots)


class History:
    """Room for about `most` fills, shared evenly among the tapes that have any."""

    def __init__(self, most: int = MAX_FILLS) -> None:
        self._most = most
        self._tapes: list[Tape] = []

    def tape(self, first_id: int) -> Tape:
        """An empty tape."""
        return Tape(self, first_id)

    def join(self, tape: Tape) -> None:
        """Called for a tape's first fill: from then on there is less room for each of the others."""
        self._tapes.append(tape)
        share = max(1, self._most // len(self._tapes))
        for each in self._tapes:
            each.most = share
            if len(each) > share:
                each.trim()

    def __len__(self) -> int:
        """Fills that are remembered."""
        return sum(map(len, self._tapes))
