"""The last trades and corrections of one stock: what a correction needs to change a bar.

    md.trades ─ add ─> blocks of 16 numbers, packed        the last REMEMBERED events, or up to twice as many
                            │ forget: REMEMBERED at once
                            v
        floor_ns ───────────┴──> the rest: of each interval's bar around the floor, the sums of what is forgotten

    a bar = its rest (of the bar around the floor alone) + its remembered trades in force

A trade is remembered while it is younger than the floor, the latest time of a trade among the dropped blocks. So a bar
that ends before the floor is closed to corrections, one that begins after it has all of its trades here, and only one
bar of each interval has both. Blocks are of `seq`, not of what was read: a reader that begins later forgets the same.

A trade is replaced by the last correction, by `seq`, that names it, that one by the last that names it, and so on
(docs/events.md). A correction may come before what it names. What follows an event in its chain is therefore added
again behind it, so that no block is dropped before that of an earlier link. It was the last of its kind, and still is
the last in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from mdstream.bars.rules import Interval
from mdstream.bars.tally import UNPUBLISHED, Tally

REMEMBERED = 1024
BLOCK = 16
SPAN = REMEMBERED // BLOCK
CANCEL = "cancel"


class Event(msgspec.Struct, array_like=True, gc=False):
    """A trade, or a correction of one, at the time `ns` that bars go by."""

    seq: int
    ns: int
    provider: str
    trade_id: str
    price: float
    size: float
    count: int = 1
    correction: str | None = None
    corrects: str | None = None


class Block(msgspec.Struct, array_like=True, tag="block"):
    """The events whose `seq` divided by BLOCK is `number`, in order, and those added again behind them."""

    symbol: str
    number: int
    events: list[Event]


class Floor(msgspec.Struct, array_like=True, tag="floor"):
    """`rest`: for each interval the sums of the forgotten trades in the bar around `ns`."""

    symbol: str
    intervals: list[str]
    ns: int
    rest: list[Tally | None]


_encode = msgspec.msgpack.Encoder().encode
_block = msgspec.msgpack.Decoder(Block).decode


class Memory:
    """The memory of one symbol. `add` takes in its events in order, each once."""

    __slots__ = ("_blocks", "_events", "_intervals", "_is_moved", "_named", "_number", "_rest", "_sealed",
                 "floor_ns", "symbol")  # fmt: skip

    def __init__(self, symbol: str, intervals: Sequence[Interval]) -> None:
        self.symbol, self._intervals = symbol, intervals
        self.floor_ns = -1
        self._rest: list[Tally | None] = [None] * len(intervals)
        self._is_moved = True
        self._number, self._events = -1, list[Event]()  # of the last block
        self._blocks: dict[int, bytes] = {}  # the others, packed
        self._sealed: list[int] = []  # since the last `states`
        self._named: set[tuple[str, str]] = set()  # what the corrections name

    def add(self, event: Event) -> Sequence[Event]:
        """Take in the next event. Returns the trades of which something else is in force now than before.

        That may be the event itself, if a correction of it came before: then it is in no bar yet.
        """
        number = event.seq // BLOCK
        if number != self._number:
            self._turn(number)
        self._events.append(event)
        if event.correction is not None:
            if not event.corrects:
                return ()
            self._named.add((event.provider, event.corrects))
            return self._changed(event)
        if event.ns <= self.floor_ns:
            self._settle([(event.ns, event)])
        elif self._named and (event.provider, event.trade_id) in self._named:
            return self._changed(event)
        return ()

    def contents(self, ns: int) -> list[Tally | None]:
        """For each interval the contents of the bar around `ns`, which is above the floor; None: no trade."""
        in_force = self._in_force()
        made: list[Tally | None] = []
        for each, rest in zip(self._intervals, self._rest, strict=True):
            ts_open = ns - ns % each.ns
            found = [pair for pair in in_force if ts_open <= pair[0] < ts_open + each.ns]
            has_rest = rest is not None and rest.ts_open == ts_open
            made.append(_sum(self.symbol, each.name, ts_open, found, rest if has_rest else None))
        return made

    # -- in force

    def _all(self) -> list[Event]:
        packed = [event for block in self._blocks.values() for event in _block(block).events]
        return packed + self._events

    def _chains(self) -> Iterator[list[Event]]:
        """Each remembered trade with the corrections that follow it; the last one is in force."""
        events = self._all()
        last = {(event.provider, event.corrects): event for event in events if event.corrects} if self._named else {}
        for event in events:
            if event.correction is None and event.ns > self.floor_ns:
                chain = [event]
                while len(chain) <= len(last):  # ids that name each other end somewhere, too
                    following = last.get((chain[-1].provider, chain[-1].trade_id))
                    if following is None:
                        break
                    chain.append(following)
                yield chain

    def _in_force(self) -> list[tuple[int, Event]]:
        """The events in force, with the time of the trade in whose place they are."""
        if not self._named:  # as almost always
            return [(event.ns, event) for event in self._all() if event.ns > self.floor_ns and not event.correction]
        return [(chain[0].ns, chain[-1]) for chain in self._chains() if chain[-1].correction != CANCEL]

    def _changed(self, event: Event) -> list[Event]:
        """The trades whose chains have the event; what follows it is added again behind it."""
        chains = [chain for chain in self._chains() if any(link is event for link in chain)]
        for chain in chains[:1]:
            at = next(at for at, link in enumerate(chain) if link is event)
            self._events += chain[at + 1 :]
        return [chain[0] for chain in chains]

    # -- forgotten

    def _turn(self, number: int) -> None:
        """Begin a block; a new span of them drops all but the span before."""
        if self._events:
            self._blocks[self._number] = _encode(Block(self.symbol, self._number, self._events))
            self._sealed.append(self._number)
        before, self._number, self._events = self._number, number, []
        if number // SPAN > before // SPAN:
            self._drop([known for known in self._blocks if known < _first(number)])

    def _drop(self, numbers: list[int]) -> None:
        events = (event for number in numbers for event in _block(self._blocks[number]).events)
        floor_ns = max((event.ns for event in events if event.correction is None), default=-1)
        if floor_ns > self.floor_ns:
            gone = [pair for pair in self._in_force() if pair[0] <= floor_ns]
            self.floor_ns = floor_ns
            self._settle(gone)
        for number in numbers:
            del self._blocks[number]
        if self._named:
            self._named = _named(self._all())

    def _settle(self, gone: list[tuple[int, Event]]) -> None:
        """Add events up to the floor to the rest of the bars around it."""
        for level, each in enumerate(self._intervals):
            ts_open, rest = self.floor_ns - self.floor_ns % each.ns, self._rest[level]
            known = rest if rest is not None and rest.ts_open == ts_open else None
            found = [pair for pair in gone if pair[0] >= ts_open]
            self._rest[level] = _sum(self.symbol, each.name, ts_open, found, known)
        self._is_moved = True

    # -- kept

    def states(self) -> list[tuple[str, bytes]]:
        """What changed since the last time, by name; later blocks reuse a name."""
        sealed, self._sealed = [number for number in self._sealed if number in self._blocks], []
        made = [(_name(number), self._blocks[number]) for number in sealed]
        made.append((_name(self._number), _encode(Block(self.symbol, self._number, self._events))))
        if self._is_moved:
            names = [each.name for each in self._intervals]
            made.append(("#", _encode(Floor(self.symbol, names, self.floor_ns, self._rest))))
            self._is_moved = False
        return made

    def restore(self, floor: Floor | None, blocks: Iterable[Block], bars: Sequence[Sequence[Tally]], seq: int) -> None:
        """Restore what `states` gave until `seq`. If it is not that, all that is in the bars, by level, is forgotten:
        after an update, or another MDSTREAM_BARS."""
        live = [block for block in blocks if block.number >= _first(seq // BLOCK)]
        live.sort(key=lambda block: block.number)
        events = [event for block in live for event in block.events]
        if live:
            self._number, self._events, self._named = live[-1].number, live[-1].events, _named(events)
            self._blocks = {block.number: _encode(block) for block in live[:-1]}
        names = [each.name for each in self._intervals]
        if floor is not None and floor.intervals == names and max((event.seq for event in events), default=-1) == seq:
            self.floor_ns, self._rest, self._is_moved = floor.ns, floor.rest, False
        else:
            self._forget_all(events, bars)

    def _forget_all(self, events: list[Event], bars: Sequence[Sequence[Tally]]) -> None:
        times = [tally.last[0] for level in bars for tally in level]
        self.floor_ns = max(times + [event.ns for event in events if event.correction is None], default=-1)
        for level, each in enumerate(self._intervals):
            ts_open = self.floor_ns - self.floor_ns % each.ns
            around = [tally.within(each.name, ts_open) for tally in bars[level] if tally.ts_open == ts_open]
            self._rest[level] = around[0] if around else None


def _first(number: int) -> int:
    """The first block that is remembered while this one is the last."""
    return (number // SPAN - 1) * SPAN


def _name(number: int) -> str:
    return f"#|{number % (2 * SPAN)}"


def _named(events: Iterable[Event]) -> set[tuple[str, str]]:
    return {(event.provider, event.corrects) for event in events if event.corrects}


def _sum(symbol: str, interval: str, ts_open: int, found: list[tuple[int, Event]], rest: Tally | None) -> Tally | None:
    """The sums of events at their times, and of the rest; None without any."""
    if not found:
        return None if rest is None else rest.within(interval, ts_open)
    times = [ns for ns, _ in found]
    ends = min(times), max(times)
    marks = [(ns, e.provider, len(e.trade_id), e.trade_id, e.price) for ns, e in found if ns in ends]
    prices = [event.price for _, event in found]
    made = Tally(
        symbol,
        interval,
        ts_open,
        UNPUBLISHED,
        sum(event.count for _, event in found),
        max(prices),
        min(prices),
        min(marks),
        max(marks),
        [event.size for _, event in found],
        [event.price * event.size for _, event in found],
    )
    if rest is not None:
        made.add(rest)
    made.settle()
    return made
