"""Whether a `seq` always names one event: which numbers were seen, which are missing, which came with other bytes.

    first pass    Numbering   numbers as intervals: seen, and seen again
    second pass   Contents    only for those seen again: hash and place of the first, to compare the others with

A number that comes again with the same bytes is a repeat, as after a crash, and no fault.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from mdstream.audit.seen import Numbers
from mdstream.audit.trades import Place, Scope, hash_of

_OFFSET_BITS = 48


class Hole(NamedTuple):
    """Numbers [first, last] that are missing; `place`: the record that came after them, if known."""

    symbol: str
    first: int
    last: int
    place: Place | None


class Numbering:
    """The numbers of one topic, by symbol. Memory: a few bytes per run of neighbours."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._seen: defaultdict[str, Numbers] = defaultdict(Numbers)
        self._next: dict[str, int] = {}
        self._jumps: dict[tuple[str, int], Place] = {}
        self._judged: dict[str, tuple[int, int]] = {}  # the lowest and highest number within the scope
        self.repeated: defaultdict[str, Numbers] = defaultdict(Numbers)
        """Repeated numbers within the scope. A second pass checks whether their contents are the same."""
        self.events = self.repeats = 0

    def add(self, symbol: str, seq: int, minute: int, place: Place | None = None) -> bool:
        """Take in an event's number. Returns whether it is new."""
        is_new = self._seen[symbol].add(seq)
        if self._next.get(symbol) != seq and place is not None:
            self._jumps.setdefault((symbol, seq), place)
        self._next[symbol] = seq + 1
        if self._scope.numbers(symbol, minute):
            self._judge(symbol, seq, is_new=is_new)
        return is_new

    def _judge(self, symbol: str, seq: int, *, is_new: bool) -> None:
        if is_new:
            self.events += 1
        else:
            self.repeats += 1
            self.repeated[symbol].add(seq)
        first, last = self._judged.get(symbol, (seq, seq))
        self._judged[symbol] = min(first, seq), max(last, seq)

    def holes(self) -> Iterator[Hole]:
        """What is missing between the first and the last number of each symbol within the scope."""
        for symbol, (least, greatest) in sorted(self._judged.items()):
            for first, last in self._seen[symbol].holes():
                if least < first and last < greatest:
                    yield Hole(symbol, first, last, self._jumps.get((symbol, last + 1)))


class Contents:
    """The contents of repeated numbers. Memory: 16 bytes each."""

    def __init__(self, repeated: Mapping[str, Numbers]) -> None:
        self._symbols = {symbol: _Contents(numbers) for symbol, numbers in repeated.items()}

    def add(self, symbol: str, seq: int, value: bytes, place: Place | None) -> Place | None:
        """Take in every record, in order. Returns the place of the first with its number if the bytes differ."""
        known = self._symbols.get(symbol)
        return None if known is None else known.add(seq, value, place or Place(0, 0))


class _Contents:
    """One symbol's contents: a slot for each number, 0 until it is seen."""

    def __init__(self, numbers: Numbers) -> None:
        runs = list(numbers.runs())
        self._first = [first for first, _ in runs]
        self._hashes = [_zeros(last - first + 1) for first, last in runs]
        self._places = [_zeros(last - first + 1) for first, last in runs]

    def add(self, seq: int, value: bytes, place: Place) -> Place | None:
        run = bisect_right(self._first, seq) - 1
        at = seq - self._first[run]
        if run < 0 or at >= len(self._hashes[run]):
            return None
        content, hashes, places = hash_of(value) or 1, self._hashes[run], self._places[run]
        if not hashes[at]:
            hashes[at], places[at] = content, place.partition << _OFFSET_BITS | place.offset
        elif hashes[at] != content:
            return Place(places[at] >> _OFFSET_BITS, places[at] & (1 << _OFFSET_BITS) - 1)
        return None


def _zeros(count: int) -> array[int]:
    return array("Q", bytes(8 * count))
