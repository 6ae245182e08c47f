"""The last 60 s of one symbol by event time, from which the features are computed. Pure.

    slots     ...|--a-b--|-------|----c--|        each of `step` ns, ((k-1)*step, k*step] is slot k
    row at T  ...........................T        T is a slot's end, so every window (T-w, T] is whole slots

Rows are made at slots' ends alone, so folding a slot's trades into one sum loses nothing, and memory does not depend on
how fast a symbol trades. Only latencies keep an entry each: four bytes, for the bin that they are in.

Sums are exact. An amount x is the integer x * 2**160: exact from 2**-107 up, and nothing smaller is let in. Sums of
integers have no drift, whatever is added and subtracted; a feature is rounded once, by the last division.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections import deque
from math import log, sqrt

SECOND_NS = 1_000_000_000
LONG_NS, SHORT_NS = 60 * SECOND_NS, 10 * SECOND_NS
SCALE = 2.0**160
MAX_PROVIDERS = 8
"""Providers whose mids are kept for each symbol: the one that was heard of first goes first."""
PERCENTS = (50, 95)
BINS = 128
"""Bins of latencies per power of two: a bin's middle is within 1/256 of each latency in it."""


class Sums:
    """Executions, size and price times size, the latter two in units of 1/SCALE and 1/SCALE**2; latencies' bins."""

    __slots__ = ("count", "latencies", "size", "value")

    def __init__(self) -> None:
        self.count = self.size = self.value = 0
        self.latencies: array[int] | None = None

    def add(self, count: int, size: int, value: int) -> None:
        self.count += count
        self.size += size
        self.value += value

    def subtract(self, other: Sums) -> None:
        self.count -= other.count
        self.size -= other.size
        self.value -= other.value

    @property
    def trades(self) -> int | None:
        """Executions; None without a trade, as are the others."""
        return self.count or None

    @property
    def volume(self) -> float | None:
        return self.size / SCALE_INT if self.count else None

    @property
    def vwap(self) -> float | None:
        return self.value / (self.size * SCALE_INT) if self.size else None


SCALE_INT = int(SCALE)


class Window:
    """What happened in (T - 60 s, T]. `end` is the slot that ends at T; `advance` moves it."""

    def __init__(self, step_ns: int, end: int) -> None:
        self.step_ns, self.end = step_ns, end
        self._long, self._short = LONG_NS // step_ns, SHORT_NS // step_ns
        self.long, self.short = Sums(), Sums()
        self.latencies = Latencies()
        self.mids: dict[str, Mids] = {}
        self._slots: dict[int, Sums] = {}

    @property
    def start(self) -> int:
        """The last slot that is no longer in the window."""
        return self.end - self._long

    def slot(self, at_ns: int) -> int:
        return -(-at_ns // self.step_ns)

    def add_trade(self, slot: int, price: float, size: float, count: int) -> None:
        """A trade in a slot of the window."""
        scaled = int(size * SCALE)
        value = int(price * SCALE) * scaled
        self._slot(slot).add(count, scaled, value)
        self.long.add(count, scaled, value)
        if slot > self.end - self._short:
            self.short.add(count, scaled, value)

    def add_latency(self, slot: int, latency_ns: int) -> None:
        """The latency of an event in a slot of the window."""
        sums, found = self._slot(slot), bin_of(latency_ns)
        if sums.latencies is None:
            sums.latencies = array("i")
        sums.latencies.append(found)
        self.latencies.add(found)

    def add_mid(self, provider: str, slot: int, order: tuple[int, int], mid: float) -> None:
        """A provider's mid, above 0; `order`: event time and seq."""
        mids = self.mids.get(provider)
        if mids is None:
            if len(self.mids) >= MAX_PROVIDERS:
                del self.mids[next(iter(self.mids))]
            mids = self.mids[provider] = Mids(SECOND_NS // self.step_ns)
        mids.add(slot, order, mid)

    def advance(self, end: int) -> None:
        """Move T to a later slot's end, and forget what is no longer in the window."""
        slots, old_end, old_short, old_long = self._slots, self.end, self.end - self._short, self.start
        self.end = end
        if self.start >= old_end:  # after a long silence nothing is left
            self.long, self.short, self.latencies = Sums(), Sums(), Latencies()
            slots.clear()
        else:
            for number in range(old_short + 1, end - self._short + 1):
                if number in slots:
                    self.short.subtract(slots[number])
            for number in range(old_long + 1, self.start + 1):
                if (gone := slots.pop(number, None)) is not None:
                    self.long.subtract(gone)
                    self.latencies.remove(gone.latencies)
        for provider, mids in list(self.mids.items()):
            if not mids.forget(self.start):
                del self.mids[provider]

    def earlier_mid(self, provider: str) -> float | None:
        """A provider's mid at T - 10 s."""
        mids = self.mids.get(provider)
        return None if mids is None else mids.as_of(self.end - self._short)

    def volatility(self, provider: str) -> float | None:
        """The root of the sum of the squared log returns between the last mids of whole seconds."""
        mids = self.mids.get(provider)
        return None if mids is None else mids.volatility(self.start, self.end)

    def _slot(self, number: int) -> Sums:
        found = self._slots.get(number)
        if found is None:
            found = self._slots[number] = Sums()
        return found


class Mids:
    """The last mid of each slot, of one provider, and the returns between those that end a whole second."""

    def __init__(self, slots_per_s: int) -> None:
        self._per_s = slots_per_s
        self._slots: list[int] = []
        self._mids: list[tuple[tuple[int, int], float]] = []
        self._returns: deque[tuple[int, int]] = deque()  # slot of the earlier mid, squared return
        self._squares = 0  # their sum
        self._sampled = 0
        self._close: tuple[int, float] | None = None
        self._changed = False

    def add(self, slot: int, order: tuple[int, int], mid: float) -> None:
        place = bisect_left(self._slots, slot) if self._slots and slot <= self._slots[-1] else len(self._slots)
        if place == len(self._slots) or self._slots[place] != slot:
            self._slots.insert(place, slot)
            self._mids.insert(place, (order, mid))
        elif order > self._mids[place][0]:
            self._mids[place] = order, mid
        else:
            return
        if slot <= self._sampled:  # late: it changes a return that is there
            self._changed = True

    def as_of(self, slot: int) -> float | None:
        """The last mid up to a slot's end; None if it is no longer in the window."""
        place = bisect_right(self._slots, slot) - 1
        return self._mids[place][1] if place >= 0 else None

    def forget(self, start: int) -> bool:
        """Forget slots up to `start`; whether any is left."""
        if self._slots and self._slots[0] <= start:
            gone = bisect_right(self._slots, start)
            del self._slots[:gone], self._mids[:gone]
        return bool(self._slots)

    def volatility(self, start: int, end: int) -> float | None:
        """As Window.volatility, of the slots after `start` up to `end`."""
        if self._changed:
            self._returns.clear()
            self._squares, self._sampled, self._close, self._changed = 0, start, None, False
        until = end // self._per_s * self._per_s
        if until > self._sampled:
            self._sample(until)
        while self._returns and self._returns[0][0] <= start:
            self._squares -= self._returns.popleft()[1]
        return sqrt(self._squares / SCALE_INT) if self._returns else None

    def _sample(self, until: int) -> None:
        """Take the last mids of the seconds that ended since the last sample."""
        slots, per_s = self._slots, self._per_s
        last = bisect_right(slots, until)
        for place in range(bisect_right(slots, self._sampled), last):
            if place + 1 < last and -(-slots[place + 1] // per_s) == -(-slots[place] // per_s):
                continue
            mid = self._mids[place][1]
            if self._close is not None:
                square = int(log(mid / self._close[1]) ** 2 * SCALE)
                self._returns.append((self._close[0], square))
                self._squares += square
            self._close = slots[place], mid
        self._sampled = until


class Latencies:
    """Latencies by bin, for percentiles. What they cost depends on neither how many latencies nor how many bins there
    are: each is searched from where it was found before, and between two rows it hardly moves."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._bins: list[int] = []  # sorted
        self._total = 0
        self._found = {percent: Found() for percent in PERCENTS}

    def add(self, number: int) -> None:
        if number not in self._counts:
            insort(self._bins, number)
            self._counts[number] = 0
        self._changed(number, 1)

    def remove(self, numbers: array[int] | None) -> None:
        for number in numbers or ():
            self._changed(number, -1)
            if not self._counts[number]:
                del self._counts[number]
                del self._bins[bisect_left(self._bins, number)]

    def _changed(self, number: int, by: int) -> None:
        self._counts[number] += by
        self._total += by
        for found in self._found.values():
            if number < found.number:
                found.below += by

    def percentile(self, percent: int) -> float | None:
        """The nearest-rank percentile in ms, one of PERCENTS: the middle of the bin that it is in."""
        if not self._total:
            return None
        counts, bins, found = self._counts, self._bins, self._found[percent]
        rank, below = -(-self._total * percent // 100), found.below
        place = bisect_left(bins, found.number)
        while below >= rank:
            place -= 1
            below -= counts[bins[place]]
        while below + (count := counts[bins[place]]) < rank:
            below += count
            place += 1
        found.number, found.below = bins[place], below
        return middle_of(found.number) / 1e6


class Found:
    """Where a percentile was found: the number of a bin, and how many latencies are in those before it."""

    __slots__ = ("below", "number")

    def __init__(self) -> None:
        self.below = self.number = 0


def bin_of(ns: int) -> int:
    """The number of the bin of a latency; numbers rise with the latency. Up to 255 ns each has its own."""
    size = -ns if ns < 0 else ns
    shift = size.bit_length() - BINS.bit_length()
    number = size if shift <= 0 else shift * BINS + (size >> shift)
    return -number if ns < 0 else number


def middle_of(number: int) -> int:
    """The latency in the middle of a bin, in ns."""
    size = abs(number)
    shift = max(0, size // BINS - 1)
    middle = ((size - shift * BINS) << shift) + ((1 << shift) >> 1)
    return -middle if number < 0 else middle
