"""Which trades of one feed are new, by their ids. Bounded.

    contiguous ids   seen  1..40  43..57            last = 57, one hole: 41..42
    rising ids       the last MAX_RECENT ids; an id not above the highest forgotten one is a repeat
    opaque ids       the last MAX_RECENT ids

Trades from redundant connections may arrive interleaved, late and reordered: a late id is new if it fills a hole.
Up to MAX_HOLES holes are kept; for the other two kinds the window of recent ids bounds how late a trade may arrive.

An aggregate covers several ids, and its size cannot be divided among them. It is new if all of them are. If some were
seen (repaired one by one) it is skipped, and the others count as missing and are repaired one by one, too.

History is what lies below the first id that was counted. It is unknown, and stays out, until it is opened: a hole that
recovered trades fill. An id becomes unknown again only while it is in a hole, so none is published twice.

    unknown | opened, a hole | opened, published | unknown | counted from `begun` on ...

When a venue restarts its trade ids, time separates new trades from repeats: a copy is never younger than the newest
trade, the first trade of the new count is; at the same venue time, a copy's id is never below the ids of that time. The
old ids stay known for connections that lag behind.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mdstream.ticks import NO_ID, TradeTick
from mdstream.venues.spans import Span, merged, within, without

MAX_HOLES = MAX_OPENED = 256
MAX_RECENT = 1024

EARLIER_IDS = 1000
"""At the start, so many ids before the first one are new too if they arrive: connections may be reordered there."""

NOT_AWAITED = 0

JUMP_IDS = 10_000_000
"""A larger jump is no gap in one instrument's trades: the venue restarted its ids."""

ID_SPACE_SILENCE_NS = 10_000_000_000
"""The other id space of the same trades (trade, aggTrade) takes over once the one in use is silent for this long."""

NEAR_NS, NEAR_PRICE = 60_000_000_000, 10.0
"""A recovered trade lies between its neighbours, within this time margin and this price factor."""

Verdict = Literal["new", "restart", "repeat", "overlap", "other view", "resume point"]
"""`new` and `restart` (new, and the first of a new count) are published; the others are not."""


class Hole(msgspec.Struct, gc=False, array_like=True):
    """Ids first..last, both included, that did not arrive. `since`: log time in ns, NOT_AWAITED if they are not waited
    for; `reported`: as a gap. `from_ts` and `to_ts`: the venue's times of the youngest trade before it and of the trade
    after it; `price`: the latter's price; 0 for unknown."""

    first: int
    last: int
    since: int
    reported: bool = False
    from_ts: int = 0
    to_ts: int = 0
    price: float = 0.0

    def part(self, first: int, last: int) -> Hole:
        """The part first..last of it, unchanged otherwise."""
        return Hole(first, last, self.since, self.reported, self.from_ts, self.to_ts, self.price)

    def not_awaited(self, first: int, last: int) -> Hole:
        """The part first..last of it, no longer awaited."""
        return Hole(first, last, NOT_AWAITED, False, self.from_ts, self.to_ts, self.price)


class SeenIds(msgspec.Struct, gc=False, array_like=True):
    """The ids seen in one id space. The fields are its whole state, for the checkpoint."""

    last: int = NO_ID
    """The newest contiguous id."""
    missing: list[Hole] = []
    """Holes up to the newest id, in rising order and disjoint."""
    recent: dict[str, None] = {}
    """Opaque or rising ids, oldest first."""
    floor: int = NO_ID
    """The highest rising id that was forgotten."""
    given_up: list[Hole] = []
    """Awaited holes dropped for lack of room; the gap report empties this list."""
    parked: bool = False
    """Another source is followed: the next higher id leaves no hole before it."""
    begun: int = NO_ID
    """The first id that was counted: those below it are history. NO_ID: nothing was counted, or it is not known."""
    opened: list[Span] = []
    """The history that is known: published, or in a hole."""

    def park(self) -> None:
        """Leave what follows to another source."""
        self.parked = self.last != NO_ID

    def add(self, first: int, last: int, now_ns: int) -> bool:
        """Add ids first..last (both included); whether any of them is new. A hole is awaited from `now_ns` on."""
        newest = self.last
        if newest == NO_ID:
            self._begin(first)
        elif first <= newest:
            filled = self.fill(first, min(last, newest))
            if last <= newest:
                return filled
        elif first > newest + 1 and not self.parked:
            self._miss(Hole(newest + 1, first - 1, now_ns))
        self.reach(last)
        return True

    def _begin(self, first: int) -> None:
        """Count from `first` on."""
        if self.begun == NO_ID:
            self.begun = first
        if first > 0:
            self.missing.append(Hole(max(0, first - EARLIER_IDS), first - 1, NOT_AWAITED))
            self.opened = within([Span(max(0, first - EARLIER_IDS), first - 1)], Span(0, self.begun - 1))

    def reach(self, last: int) -> None:
        """Count on from `last`."""
        if self.last == NO_ID and self.begun == NO_ID:
            self.begun = last + 1
        self.last, self.parked = last, False

    def _miss(self, hole: Hole) -> None:
        self.missing.append(hole)
        if len(self.missing) > MAX_HOLES:
            self._forget_oldest()

    def fill(self, first: int, last: int) -> bool:
        """Remove first..last from the holes; whether any was in one."""
        return self._cut(first, last, keep=False)

    def has_some(self, first: int, last: int) -> bool:
        """Whether some of first..last were seen and some were not."""
        new = sum(self.missing_within(first, min(last, self.last))) + max(0, last - self.last)
        return first <= self.last and 0 < new <= last - first

    def miss_to(self, last: int, now_ns: int) -> None:
        """Await all ids after the newest up to `last`."""
        if last > self.last:
            self._miss(Hole(self.last + 1, last, now_ns))
            self.reach(last)

    def give_up(self, first: int, last: int) -> bool:
        """Stop waiting for first..last, which are still new if they arrive; whether any was missing."""
        return self._cut(first, last, keep=True)

    def missing_within(self, first: int, last: int) -> tuple[int, int]:
        """How many of first..last are awaited, and how many are missing but not awaited."""
        awaited = lost = 0
        for hole in self.missing:
            ids = min(hole.last, last) - max(hole.first, first) + 1
            if ids > 0 and hole.since != NOT_AWAITED:
                awaited += ids
            elif ids > 0:
                lost += ids
        return awaited, lost

    def _cut(self, first: int, last: int, *, keep: bool) -> bool:
        kept: list[Hole] = []
        found = False
        for hole in self.missing:
            if hole.last < first or hole.first > last:
                kept.append(hole)
                continue
            found = True
            if hole.first < first:
                kept.append(hole.part(hole.first, first - 1))
            if keep:
                kept.append(hole.not_awaited(max(hole.first, first), min(hole.last, last)))
            if hole.last > last:
                kept.append(hole.part(last + 1, hole.last))
        if found:
            self.missing = kept
            while len(self.missing) > MAX_HOLES:  # a hole cut in its middle leaves two
                self._forget_oldest()
        return found

    def _forget_oldest(self) -> None:
        oldest = self.missing.pop(0)
        if oldest.since != NOT_AWAITED:
            self.given_up.append(oldest)
        self._close([Span(oldest.first, oldest.last)])

    # -- history

    def unseen(self, span: Span) -> list[Span]:
        """The ids of `span`, up to the newest, that are missing or unknown."""
        known = [*self.opened, Span(self.begun, self.last)] if self.begun <= self.last else self.opened
        seen = without(known, [Span(hole.first, hole.last) for hole in self.missing])
        return without(within([span], Span(0, self.last)), seen)

    def open(self, span: Span) -> bool:
        """Make the unknown ids of `span` holes that nobody waits for; False, and nothing is done, if that are too many
        ranges or holes."""
        unknown = without(within([span], Span(0, self.begun - 1)), self.opened)
        opened = merged([*self.opened, *unknown])
        if len(opened) > MAX_OPENED or len(self.missing) + len(unknown) > MAX_HOLES:
            return False
        self.opened = opened
        holes = [*self.missing, *(Hole(first, last, NOT_AWAITED) for first, last in unknown)]
        self.missing = sorted(holes, key=lambda hole: hole.first)
        return True

    def close(self, span: Span) -> None:
        """Make the missing ids of `span` that are history unknown again: the venue does not have them."""
        bounds = Span(span.first, min(span.last, self.begun - 1))
        gone = within([Span(hole.first, hole.last) for hole in self.missing], bounds)
        for first, last in gone:
            self.fill(first, last)
        self._close(gone)

    def _close(self, gone: list[Span]) -> None:
        """Ids that were in a hole until now are unknown, as far as they are history. What is between the lowest ranges
        counts as known if there are too many."""
        self.opened = without(self.opened, gone)
        while len(self.opened) > MAX_OPENED:
            self.opened[:2] = [Span(self.opened[0].first, self.opened[1].last)]

    def add_opaque(self, identity: str) -> bool:
        """Add an id without order; whether it is new among the last MAX_RECENT."""
        return self._remember(identity) is not None

    def add_rising(self, number: int) -> bool:
        """Add a rising id, whose holes mean nothing; whether it is new."""
        if number <= self.floor:
            return False
        forgotten = self._remember(str(number))
        if forgotten:
            self.floor = max(self.floor, int(forgotten))
        return forgotten is not None

    def _remember(self, identity: str) -> str | None:
        """None if it is known; else the id forgotten to make room, "" for none."""
        recent = self.recent
        if identity in recent:
            return None
        recent[identity] = None
        if len(recent) <= MAX_RECENT:
            return ""
        oldest = next(iter(recent))
        del recent[oldest]
        return oldest

    def restarted(self) -> SeenIds:
        """Ids for a new count: nothing seen, and every awaited hole given up."""
        awaited = [hole for hole in self.missing if hole.since != NOT_AWAITED]
        self.missing = [hole.not_awaited(hole.first, hole.last) for hole in self.missing]
        given_up, self.given_up = self.given_up, []
        # Below the first id of a new count are the ids of the old one: no history.
        is_first = self.last == self.begun == NO_ID
        return SeenIds(given_up=given_up + awaited, begun=NO_ID if is_first else 0)


class TradeDedupe(msgspec.Struct, array_like=True):
    """Which trades of one feed were published. `newest_ts`: the venue's time of the youngest of them, 0 for none;
    `newest_first`: the lowest id of that time."""

    id_space: str = ""
    id_space_ns: int = 0
    seen: SeenIds = msgspec.field(default_factory=SeenIds)
    newest_ts: int = 0
    before: SeenIds | None = None
    """The previous count, for trades not younger than `before_ts`."""
    before_ts: int = 0
    newest_first: int = 0
    before_first: int = 0

    def admit_next(self, tick: TradeTick, now_ns: int) -> bool:
        """Record a trade if it has the next id of the id space in use; whether it has. `now_ns`: log time.

        The only check that nearly every trade needs; `admit` judges the others.
        """
        seen = self.seen
        if tick.first_id != seen.last + 1 or tick.id_space != self.id_space or seen.parked:
            return False
        seen.last, self.id_space_ns = tick.last_id, now_ns
        ts = tick.ts_exchange
        if ts is not None and ts > self.newest_ts:
            self.newest_ts, self.newest_first = ts, tick.first_id
        return True

    def admit(self, tick: TradeTick, now_ns: int, *, contiguous: bool) -> Verdict:
        """Judge a trade, and record it if it is to be published. `now_ns`: log time."""
        if tick.id_space != self.id_space:
            if self.id_space and now_ns - self.id_space_ns < ID_SPACE_SILENCE_NS:
                return "other view"
            self.id_space, self.seen, self.before = tick.id_space, self.seen.restarted(), None
        self.id_space_ns = now_ns
        verdict = self._admit(tick, now_ns, contiguous)
        if verdict in ("new", "restart"):
            self._date(tick)
        return verdict

    def _date(self, tick: TradeTick) -> None:
        """Record the time of a trade that will be published."""
        ts = tick.ts_exchange
        if ts is not None and ts > self.newest_ts:
            self.newest_ts, self.newest_first = ts, tick.first_id
        elif ts == self.newest_ts and tick.first_id < self.newest_first:
            self.newest_first = tick.first_id

    def fill(self, tick: TradeTick) -> bool:
        """Record a trade only if it was missing; whether it was."""
        if tick.id_space != self.id_space or tick.last_id == NO_ID:
            return False
        seen = self._of(tick)
        filled = not seen.has_some(tick.first_id, tick.last_id) and seen.fill(tick.first_id, tick.last_id)
        if filled:
            self._date(tick)
        return filled

    def is_history(self, tick: TradeTick) -> bool:
        """Whether a trade is from before the first that was counted."""
        return tick.id_space == self.id_space and tick.last_id < self._of(tick).begun

    def _note(self, tick: TradeTick, last: int) -> None:
        """Record the neighbours of a hole up to `last` that this trade has just revealed."""
        hole = self.seen.missing[-1] if self.seen.missing else None
        if hole is not None and hole.last == last and hole.since != NOT_AWAITED and not hole.price:
            hole.from_ts, hole.to_ts, hole.price = self.newest_ts, tick.ts_exchange or 0, tick.price

    def contradiction(self, tick: TradeTick) -> str | None:
        """Why a recovered trade cannot be the missing one; None if nothing contradicts it."""
        holes = self._of(tick).missing if tick.id_space == self.id_space else []
        hole = next((hole for hole in holes if hole.first <= tick.last_id <= hole.last), None)
        if hole is None or not hole.price:
            return None
        times, ts, price = [time for time in (hole.from_ts, hole.to_ts) if time], tick.ts_exchange, tick.price
        if times and ts is not None and not min(times) - NEAR_NS <= ts <= max(times) + NEAR_NS:
            return f"made at {ts} ns, the trades around it at {min(times)} to {max(times)}"
        if hole.price > 0 and not hole.price / NEAR_PRICE <= price <= hole.price * NEAR_PRICE:
            return f"a price of {price:.12g}, the trade behind it has {hole.price:.12g}"
        return None

    def continue_after(self, tick: TradeTick) -> None:
        """Continue counting after a trade that another source has covered: ids missing after it are holes."""
        if self.seen.last == NO_ID:
            self.id_space = tick.id_space
        if tick.id_space == self.id_space and tick.last_id > self.seen.last and not self._jumps(tick):
            self.seen.reach(tick.last_id)

    def is_later(self, tick: TradeTick) -> bool:
        """Whether a trade comes after all published ones, as far as its id shows; a correction does not if its trade
        was published lately."""
        if tick.correction is not None:
            return not {tick.corrects, tick.trade_id} & self.seen.recent.keys()
        known = tick.id_space == self.id_space and tick.last_id != NO_ID
        return not known or tick.first_id > self.seen.last or self.restarts(tick)

    def _of(self, tick: TradeTick) -> SeenIds:
        """The count that a trade belongs to."""
        before, ts = self.before, tick.ts_exchange
        if before is None or ts is None or ts > self.before_ts:
            return self.seen
        return self.seen if ts == self.before_ts and tick.last_id < self.before_first else before

    def _admit(self, tick: TradeTick, now_ns: int, contiguous: bool) -> Verdict:
        if tick.last_id == NO_ID:
            return "new" if self.seen.add_opaque(tick.trade_id) else "repeat"
        seen = self._of(tick)
        if seen is not self.seen:
            return "new" if _add(seen, tick, NOT_AWAITED, contiguous) else "repeat"
        begins = seen.last == NO_ID
        if contiguous and tick.first_id < tick.last_id and seen.has_some(tick.first_id, tick.last_id):
            seen.miss_to(tick.last_id, now_ns)
            self._note(tick, tick.last_id)
            return "overlap"
        if not self._jumps(tick):
            if _add(seen, tick, now_ns, contiguous):
                self._note(tick, tick.first_id - 1)
                # From before we subscribed: counting begins here, and it is not news.
                if not (tick.resume and begins):
                    return "new"
                if seen.begun > 0:
                    seen.begun = tick.last_id + 1
                return "resume point"
            if not self.restarts(tick):
                return "repeat"
        self.before, self.before_ts, self.before_first = seen, self.newest_ts, self.newest_first
        self.seen, self.newest_first = seen.restarted(), tick.first_id
        _add(self.seen, tick, now_ns, contiguous)
        return "restart"

    def restarts(self, tick: TradeTick) -> bool:
        """Whether a trade that is not new by its id starts a new count."""
        ts = tick.ts_exchange
        if ts is None or tick.last_id == NO_ID or tick.resume:
            return False
        return ts > self.newest_ts or (ts == self.newest_ts and tick.last_id < self.newest_first)

    def _jumps(self, tick: TradeTick) -> bool:
        return self.seen.last != NO_ID and tick.first_id - self.seen.last > JUMP_IDS


def _add(seen: SeenIds, tick: TradeTick, now_ns: int, contiguous: bool) -> bool:
    return seen.add(tick.first_id, tick.last_id, now_ns) if contiguous else seen.add_rising(tick.last_id)
