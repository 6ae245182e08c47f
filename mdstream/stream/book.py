"""One venue's book of one instrument, built from a snapshot and the updates since. Updates in, levels out.

              snapshot            best bid < best ask
    EMPTY ──────────────> SYNCED <───────────────────> CROSSED
      ^                      │                            │
      └──────── lose ────────┴─ a side ran out of levels ─┴── for LONGEST_CROSSED_NS

    EMPTY    no level is known: updates are ignored until a snapshot arrives
    SYNCED   every level that is not below its side's floor is known: the top is the venue's
    CROSSED  as SYNCED, but not tradable: half of a change, an auction, or a lost update. Nothing is published
             meanwhile; if it lasts, a lost update is the cause. A checksum that differs counts as crossed, too

Sizes are absolute, so an update repeated at once does no harm. One repeated after newer ones would restore removed
levels; it is recognised by its venue time, among the last MAX_TIMES. An update with an older but unknown time is no
copy: a venue's clock may be set back.

Several connections may give the same updates, each in order and from a snapshot of its own: redundant ones, or one that
takes over from another. What one of them gives is in the book already if it is not newer than the last update of
another (a clock set back shows by more than MAX_LAG_NS). So the book moves on with whichever is ahead.

Where the venue numbers its updates, each has to follow the last one: a number that did not come loses the book at once,
and copies are known by their numbers.

    keys of the bids  ... 93741_0  93741_1         best last: changes are near the end of a list, and the top is its
    keys of the asks  ... -93742_0 -93741_2        last item; both sides are read in the same way

A side keeps MAX_LEVELS and drops the worst beyond that. From then on no level below the worst kept one is accepted
until the next snapshot: the known levels have no hole, so the best known level is the best, or the book is lost.
Where the venue itself keeps only some levels (BookCheck), the others are dropped, and come back when it sends them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from enum import Enum, auto
from zlib import compress, crc32, decompress

import msgspec

from mdstream.events import Level
from mdstream.ticks import (
    BOOK_DEPTH,
    NO_ID,
    PRICE_DECIMALS,
    PRICE_UNIT,
    BookCheck,
    BookTick,
    BookUpdate,
    PriceLevel,
    QuoteTick,
)

MAX_LEVELS = 50_000
"""Per side: six megabytes."""
UNBOUNDED = -(10**31)
"""The floor of a side with every level known; below all keys."""
MAX_TIMES = 512
"""With an update every 50 ms, a redundant connection may lag by 25 seconds."""
MAX_LAG_NS = 5_000_000_000
"""By how much one connection to a venue may be behind another."""
LONGEST_CROSSED_NS = 5_000_000_000
CHECKED_LEVELS = 10
MOST_EXACT = 1 << 51
"""Below it, a size in units of its last decimal is exact although it is kept as a float64."""


class State(Enum):
    EMPTY = auto()
    SYNCED = auto()
    CROSSED = auto()


class UpdateResult(Enum):
    """The result of an update."""

    NOTHING = "nothing"
    """Nothing changed that is published."""
    LEVELS = "levels"
    """One of the best levels changed, but not the top."""
    TOP = "top"
    """The top changed, or has to be published again: after a snapshot, or when the book is no longer crossed."""
    CROSSED = "crossed"
    """The book is crossed: nothing is published."""
    PASSED = "passed over"
    """The update was ignored: a copy, or there is no snapshot yet."""
    LOST = "lost"
    """The book can no longer be right: it is empty until the next snapshot."""


class _Image(msgspec.Struct, array_like=True):
    """A whole book, levels in the order of their keys."""

    ts: int | None
    recv_ns: int
    crossed_ns: int
    times: list[int]
    bid_floor: int
    ask_floor: int
    bids: tuple[list[int], list[float]]
    asks: tuple[list[int], list[float]]
    connection: bytes = b""
    update_id: int = NO_ID


# JSON, because keys may exceed msgpack's 64-bit integers. Compression leaves a third, some 6 bytes per level.
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Image).decode


class Side:
    """The levels of one side: sizes by key, and the keys in order. A key is the price, negated for asks."""

    __slots__ = ("floor", "keys", "sizes")

    def __init__(self, levels: Iterable[PriceLevel] = (), floor: int = UNBOUNDED) -> None:
        sizes = dict(levels)
        self.sizes = sizes if all(sizes.values()) else {key: size for key, size in sizes.items() if size}
        self.keys = sorted(self.sizes)
        self.floor = floor
        if len(self.keys) > MAX_LEVELS:
            self._drop(len(self.keys) - MAX_LEVELS)

    def set(self, key: int, size: float) -> bool:
        """Set the new size of a level; whether one of the best BOOK_DEPTH levels changed."""
        keys, sizes = self.keys, self.sizes
        if size:
            known = sizes.get(key)
            if known is None:
                if key < self.floor:
                    return False
                insort(keys, key)
                sizes[key] = size
                if len(keys) > MAX_LEVELS:
                    self._drop(1)
            elif known == size:
                return False
            else:
                sizes[key] = size
        elif sizes.pop(key, None) is None:
            return False
        else:
            del keys[bisect_left(keys, key)]
        return len(keys) < BOOK_DEPTH or key >= keys[-BOOK_DEPTH]

    def _drop(self, count: int) -> None:
        """Drop the worst levels, and accept none below the others from now on."""
        for key in self.keys[:count]:
            del self.sizes[key]
        del self.keys[:count]
        self.floor = self.keys[0]

    def cut(self, depth: int) -> None:
        """Drop all but the best `depth` levels; any may come back."""
        for key in self.keys[:-depth]:
            del self.sizes[key]
        del self.keys[:-depth]

    @property
    def exhausted(self) -> bool:
        """Whether the best level may be unknown."""
        return not self.keys and self.floor != UNBOUNDED

    def best(self) -> list[PriceLevel]:
        """The best BOOK_DEPTH known levels, by key, best first."""
        sizes = self.sizes
        return [(key, sizes[key]) for key in self.keys[: -BOOK_DEPTH - 1 : -1]]


_Top = tuple[PriceLevel | None, PriceLevel | None]


class Book:
    """`ts`, `recv_ns`, `connection` and `update_id` of the last update applied: the venue's time (None if it gives
    none), our receive time, where it came from, its number. `moved`: updates were applied since the last image."""

    __slots__ = (
        "_asks",
        "_bids",
        "_crossed_ns",
        "_times",
        "_top",
        "connection",
        "moved",
        "recv_ns",
        "state",
        "ts",
        "update_id",
    )

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget everything: the book cannot be trusted."""
        self.state = State.EMPTY
        self.moved = False
        self.ts: int | None = None
        self.recv_ns = self._crossed_ns = 0
        self._bids, self._asks = Side(), Side()
        self._top: _Top = None, None
        self._times: dict[int, None] = {}
        self.connection, self.update_id = b"", NO_ID

    def apply(self, update: BookUpdate, recv_ns: int, connection: bytes = b"") -> UpdateResult:
        """Apply an update received at `recv_ns` by a connection; its result."""
        numbered = update.previous_id is not None and not update.whole
        if not numbered and connection != self.connection and self._is_behind(update):
            return UpdateResult.PASSED
        if update.whole:
            self._begin(update)
            changed = True
        elif self.state is State.EMPTY:
            return UpdateResult.PASSED
        elif numbered and update.previous_id != self.update_id:
            return self._skip(update)
        elif not numbered and self._is_copy(update.ts_exchange):
            return UpdateResult.PASSED
        else:
            changed = self._change(update)
        self.recv_ns, self.connection, self.update_id, self.moved = recv_ns, connection, update.update_id, True
        self._remember(update.ts_exchange)
        if update.check is not None and not self._agrees(update.check):
            return self._cross(recv_ns)
        return self._settle(changed, recv_ns, again=update.whole)

    def _begin(self, update: BookUpdate) -> None:
        self.clear()
        self._bids, self._asks = Side(update.bids), Side((-price, size) for price, size in update.asks)

    def _change(self, update: BookUpdate) -> bool:
        changed, bids, asks = False, self._bids, self._asks
        for price, size in update.bids:
            if bids.set(price, size):
                changed = True
        for price, size in update.asks:
            if asks.set(-price, size):
                changed = True
        return changed

    def _skip(self, update: BookUpdate) -> UpdateResult:
        """The result of an update that does not follow the last one: a copy, or one whose predecessor was lost.

        Numbers that are low but belong to a later time began anew, unnoticed.
        """
        if update.update_id <= self.update_id and (update.ts_exchange or 0) <= (self.ts or 0):
            return UpdateResult.PASSED
        self.clear()
        return UpdateResult.LOST

    def _is_behind(self, update: BookUpdate) -> bool:
        """Whether an update of another connection than the last one adds nothing."""
        ts = update.ts_exchange
        if ts is None or self.ts is None or self.state is not State.SYNCED:
            return False
        newer = update.previous_id is not None and update.update_id > self.update_id
        return self.ts - MAX_LAG_NS < ts <= self.ts and not newer

    def _is_copy(self, ts: int | None) -> bool:
        """Whether an update was already applied, before the last one. (Repeating the last one changes nothing.)"""
        return ts != self.ts and ts in self._times

    def _remember(self, ts: int | None) -> None:
        self.ts, times = ts, self._times
        if ts is not None:
            times[ts] = None
            if len(times) > MAX_TIMES:
                del times[next(iter(times))]

    def _agrees(self, check: BookCheck) -> bool:
        """Whether the book, cut to the venue's depth, has its checksum."""
        self._bids.cut(check.depth)
        self._asks.cut(check.depth)
        price_unit, size_unit = 10 ** (PRICE_DECIMALS - check.price_decimals), 10**check.size_decimals
        digits = []
        for side in (self._asks, self._bids):
            for key in side.keys[: -CHECKED_LEVELS - 1 : -1]:
                lots = round(side.sizes[key] * size_unit)
                if lots >= MOST_EXACT:
                    return True  # no more can be said
                digits.append(f"{abs(key) // price_unit}{lots}")
        return crc32("".join(digits).encode()) == check.crc32

    def _settle(self, changed: bool, recv_ns: int, *, again: bool) -> UpdateResult:
        """What to publish now that an update was applied; `again`: the top in any case."""
        if not changed and self.state is State.SYNCED:
            return UpdateResult.NOTHING
        bids, asks = self._bids.keys, self._asks.keys
        if self._bids.exhausted or self._asks.exhausted:
            self.clear()
            return UpdateResult.LOST
        if bids and asks and bids[-1] + asks[-1] >= 0:
            return self._cross(recv_ns)
        top = self._find_top()
        if top == self._top and self.state is State.SYNCED and not again:
            return UpdateResult.LEVELS
        self.state, self._top, self._crossed_ns = State.SYNCED, top, 0
        return UpdateResult.TOP

    def _cross(self, recv_ns: int) -> UpdateResult:
        if self.state is not State.CROSSED:
            self.state, self._crossed_ns = State.CROSSED, recv_ns
        elif recv_ns - self._crossed_ns >= LONGEST_CROSSED_NS:
            self.clear()
            return UpdateResult.LOST
        return UpdateResult.CROSSED

    def _find_top(self) -> _Top:
        bids, asks = self._bids, self._asks
        return (
            (bids.keys[-1], bids.sizes[bids.keys[-1]]) if bids.keys else None,
            (-asks.keys[-1], asks.sizes[asks.keys[-1]]) if asks.keys else None,
        )

    def quote(self, symbol: str) -> QuoteTick:
        """The top of a SYNCED book."""
        (bid, bid_size), (ask, ask_size) = (_public(level) if level else (None, None) for level in self._top)
        return QuoteTick(symbol, bid, bid_size, ask, ask_size, self.ts)

    def picture(self, symbol: str) -> BookTick:
        """The best levels of a SYNCED book."""
        bids = [_public(level) for level in self._bids.best()]
        asks = [_public((-key, size)) for key, size in self._asks.best()]
        return BookTick(symbol, bids, asks, self.ts)

    def image(self) -> bytes:
        """A whole book that is not EMPTY, as bytes; `of_image` restores it."""
        bids, asks = ((side.keys, [side.sizes[key] for key in side.keys]) for side in (self._bids, self._asks))
        floors = self._bids.floor, self._asks.floor
        self.moved = False
        last = self.connection, self.update_id
        levels = _Image(self.ts, self.recv_ns, self._crossed_ns, list(self._times), *floors, bids, asks, *last)
        return compress(_encode(levels), 1)

    @classmethod
    def of_image(cls, image: bytes) -> Book:
        """The book that made `image`."""
        levels, book = _decode(decompress(image)), cls()
        book._bids = Side(zip(*levels.bids, strict=True), levels.bid_floor)
        book._asks = Side(zip(*levels.asks, strict=True), levels.ask_floor)
        book.ts, book.recv_ns, book._crossed_ns = levels.ts, levels.recv_ns, levels.crossed_ns
        book._times = dict.fromkeys(levels.times)
        book.connection, book.update_id = levels.connection, levels.update_id
        book.state = State.CROSSED if levels.crossed_ns else State.SYNCED
        book._top = book._find_top()
        return book


def _public(level: PriceLevel) -> Level:
    """Price and size as in public events: the float64 nearest to the venue's number."""
    price, size = level
    return price / PRICE_UNIT, size
