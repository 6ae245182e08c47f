"""What was seen, in little memory: numbers as intervals, other ids by a hash."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from mdstream.audit.trades import hash_of


class Numbers:
    """A set of integers that takes memory per run of neighbours, not per number: venues and `seq` count by one."""

    __slots__ = ("_first", "_last")

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def add(self, number: int) -> bool:
        """Add it. Returns whether it is new."""
        first, last = self._first, self._last
        at = bisect_right(first, number)  # the run that may hold it is the one before
        if at and number <= last[at - 1]:
            return False
        after_one, before_one = at > 0 and last[at - 1] == number - 1, at < len(first) and first[at] == number + 1
        if after_one and before_one:  # the last number of a hole
            last[at - 1] = last[at]
            del first[at], last[at]
        elif after_one:
            last[at - 1] = number
        elif before_one:
            first[at] = number
        else:
            first.insert(at, number)
            last.insert(at, number)
        return True

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._first, number)
        return at > 0 and number <= self._last[at - 1]

    def runs(self) -> Iterator[tuple[int, int]]:
        """(first, last) of each run of neighbours."""
        return zip(self._first, self._last, strict=True)

    def holes(self) -> Iterator[tuple[int, int]]:
        """(first, last) of each run of numbers that is missing between those seen."""
        for ended, begins in zip(self._last, self._first[1:], strict=False):
            yield ended + 1, begins - 1


class Ids:
    """A set of trade ids: plain numbers as Numbers, others by a 64-bit hash each."""

    __slots__ = ("_numbers", "_others")

    def __init__(self) -> None:
        self._numbers = Numbers()
        self._others: set[int] = set()

    def add(self, trade_id: str) -> bool:
        """Add it. Returns whether it is new."""
        if is_number(trade_id):
            return self._numbers.add(int(trade_id))
        hashed = hash_of(trade_id.encode())
        if hashed in self._others:
            return False
        self._others.add(hashed)
        return True

    def __contains__(self, trade_id: str) -> bool:
        return int(trade_id) in self._numbers if is_number(trade_id) else hash_of(trade_id.encode()) in self._others


def is_number(trade_id: str) -> bool:
    """Whether the id is a number in canonical form: "07" is another id than "7"."""
    return trade_id.isascii() and trade_id.isdigit() and len(trade_id) <= 18 and (trade_id[0] != "0" or trade_id == "0")
