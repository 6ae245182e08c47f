"""The last contents that a sink received, by number: a number that comes again with another content is a conflict.

A sink that does not compare with what it has stored drops such an event as a repeat, or keeps both. It detects
conflicts among the events that it remembers of each instrument:

    seq     ... 126  127 | 128  129            129 is the last one: 2 to 129 are remembered
    slot    ... 126  127 |   0    1            a number's place in the ring, replacing the number 128 below it

Nearly all events are new, which the number alone shows: their bytes are kept, but not compared.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from mdstream.sinks.numbers import Conflicts

REMEMBERED = 128
"""Contents of each instrument's trades, quotes or books: a restarted writer repeats about a second of them."""
MAX_INSTRUMENTS = 4_096
"""Names come from the network: beyond this many, the memory is cleared."""


class _Numbered(msgspec.Struct):
    seq: int


_decode = msgspec.json.Decoder(_Numbered).decode


class _Ring:
    """The last contents of one instrument and kind; `last` is the highest number."""

    __slots__ = ("last", "values")

    def __init__(self) -> None:
        self.last = -1
        self.values: list[bytes] = [b""] * REMEMBERED


class Remembered:
    """Contents by instrument and number; the first one counts as a number's content."""

    def __init__(self, conflicts: Conflicts) -> None:
        self._conflicts = conflicts
        self._rings: dict[str, _Ring] = {}

    def note(self, events: Iterable[tuple[str, int, bytes]]) -> None:
        """Take in events, including repeats: instrument and kind in one name, number, content."""
        rings, found = self._rings, []
        for name, number, value in events:
            ring = rings.get(name)
            if ring is None:
                ring = self._ring(name)
            if number > ring.last:
                ring.last = number
                ring.values[number % REMEMBERED] = value
            elif ring.values[number % REMEMBERED] != value and _is_of(number, ring):
                found.append((name, number))
        if found:
            self._conflicts.found(found)

    def _ring(self, name: str) -> _Ring:
        if len(self._rings) >= MAX_INSTRUMENTS:
            self._rings.clear()
        ring = self._rings[name] = _Ring()
        return ring


def _is_of(number: int, ring: _Ring) -> bool:
    """Whether the number's slot holds this number: if numbers have holes, it may hold another one."""
    value = ring.values[number % REMEMBERED]
    return bool(value) and _decode(value).seq == number
