"""Which trades and quotes of one feed are new: by id where the venue gives one, else by value and time. Bounded.

    contiguous ids   seen  1..40  43..57            last = 57, one hole: 41..42
    rising ids       the last MAX_RECENT ids; what is not among them and not above the highest forgotten is a repeat
    opaque ids       the last MAX_RECENT ids

Redundant lines of one feed may come interleaved, late and reordered: a late id is new where it fills a hole. Holes are
kept up to MAX_HOLES; for the other two kinds the window of recent ids bounds how late a trade may come.

An aggregate stands for several ids, and its size cannot be shared out among them. It is new where all of them are;
where some were seen, repaired one by one, it is passed over, and the others are missed and come one by one, too.

A venue that numbers its trades anew is told from a repeat by time: a copy is never younger than the newest trade, the
first trade of a new count is; within one tick of the venue's clock, a copy's id is none below those of that time. Ids
from before are known on for lines that lag behind.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mdstream.ticks import NO_ID, QuoteTick, TradeTick

MAX_HOLES = 256
MAX_RECENT = 1024

EARLIER_IDS = 1000
"""Where counting begins, so many ids before the first one are new too if they come: lines may be reordered there."""

NOT_AWAITED = 0

JUMP_IDS = 10_000_000
"""Nobody misses so many trades of one instrument: the venue counts from elsewhere now."""

VIEW_SILENCE_NS = 10_000_000_000
"""A venue's other view of the same trades (trade, aggTrade) takes over once the one in use was silent for so long."""

RESTART_NS = 5_000_000_000
"""Update ids below the last one count as a new count, not as repeats, once none above it came for so long."""

NEAR_NS, NEAR_PRICE = 60_000_000_000, 10.0
"""A recovered trade lies between its neighbours, give or take so much time, and within so many times their price."""

MAX_SAME_TIME = 64
"""Quotes without ids that are remembered within one tick of the venue's clock."""

Verdict = Literal["new", "restart", "repeat", "overlap", "other view", "resume point"]
"""`new` and `restart` (new, and the first of a new count) are to be published; the others are not."""


class Hole(msgspec.Struct, gc=False, array_like=True):
    """Ids first..last, both included, that did not come. `since`: log time in ns, NOT_AWAITED where nobody waits for
    them; `asked`: it was reported as a gap. What was known around it: the venue's times of the youngest trade before it
    and of the one behind it, and that one's price; 0 for nothing."""

    first: int
    last: int
    since: int
    asked: bool = False
    from_ts: int = 0
    to_ts: int = 0
    price: float = 0.0

    def part(self, first: int, last: int) -> Hole:
        """What is left of it."""
        return Hole(first, last, self.since, self.asked, self.from_ts, self.to_ts, self.price)

    def not_awaited(self, first: int, last: int) -> Hole:
        """What nobody waits for any longer of it."""
        return Hole(first, last, NOT_AWAITED, False, self.from_ts, self.to_ts, self.price)


class SeenIds(msgspec.Struct, gc=False, array_like=True):
    """What was seen of one id space. The fields are its whole state, for the checkpoint."""

    last: int = NO_ID
    """The newest contiguous id; below NO_ID while parked."""
    missing: list[Hole] = []
    """Up to the newest id, in rising order and apart."""
    recent: dict[str, None] = {}
    """Opaque or rising ids, oldest first."""
    floor: int = NO_ID
    """The highest rising id that was forgotten."""
    given_up: list[Hole] = []
    """Holes that were awaited and for which there was no more room; whoever reports gaps empties it."""

    @property
    def newest(self) -> int:
        return self.last if self.last >= NO_ID else -2 - self.last

    def park(self) -> None:
        """From here on another source is followed: the next higher id comes without a hole before it."""
        if self.last > NO_ID:
            self.last = -2 - self.last

    def add(self, first: int, last: int, now_ns: int) -> bool:
        """Take in ids first..last (both included); whether any of them is new. A hole is awaited from `now_ns` on."""
        newest = self.newest
        if newest == NO_ID:
            if first > 0:
                self.missing.append(Hole(max(0, first - EARLIER_IDS), first - 1, NOT_AWAITED))
        elif first <= newest:
            filled = self.fill(first, min(last, newest))
            if last <= newest:
                return filled
        elif first > newest + 1 and self.last >= NO_ID:
            self._miss(Hole(newest + 1, first - 1, now_ns))
        self.last = last
        return True

    def _miss(self, hole: Hole) -> None:
        self.missing.append(hole)
        if len(self.missing) > MAX_HOLES:
            self._forget_oldest()

    def fill(self, first: int, last: int) -> bool:
        """Take first..last out of the holes; whether any was in one."""
        return self._cut(first, last, keep=False)

    def has_some(self, first: int, last: int) -> bool:
        """Whether of first..last some were seen and some were not."""
        newest = self.newest
        new = sum(self.missing_within(first, min(last, newest))) + max(0, last - newest)
        return first <= newest and 0 < new <= last - first

    def miss_to(self, last: int, now_ns: int) -> None:
        """Await all after the newest id up to `last`."""
        if last > self.newest:
            self._miss(Hole(self.newest + 1, last, now_ns))
            self.last = last

    def give_up(self, first: int, last: int) -> bool:
        """Wait no longer for first..last, though they are new if they come; whether any was missing."""
        return self._cut(first, last, keep=True)

    def missing_within(self, first: int, last: int) -> tuple[int, int]:
        """Of first..last: how many are awaited, and how many are missing without being awaited."""
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
            while len(self.missing) > MAX_HOLES:  # one that is cut in its middle leaves two
                self._forget_oldest()
        return found

    def _forget_oldest(self) -> None:
        oldest = self.missing.pop(0)
        if oldest.since != NOT_AWAITED:
            self.given_up.append(oldest)

    def add_opaque(self, identity: str) -> bool:
        """Take in an id without order; whether it is new among the last MAX_RECENT."""
        return self._remember(identity) is not None

    def add_rising(self, number: int) -> bool:
        """Take in an id that rises, with holes that mean nothing; whether it is new."""
        if number <= self.floor:
            return False
        forgotten = self._remember(str(number))
        if forgotten:
            self.floor = max(self.floor, int(forgotten))
        return forgotten is not None

    def _remember(self, identity: str) -> str | None:
        """None where it is known; else what was forgotten for it, "" for nothing."""
        recent = self.recent
        if identity in recent:
            return None
        recent[identity] = None
        if len(recent) <= MAX_RECENT:
            return ""
        oldest = next(iter(recent))
        del recent[oldest]
        return oldest

    def anew(self) -> SeenIds:
        """For another count: nothing seen, and everything awaited given up."""
        awaited = [hole for hole in self.missing if hole.since != NOT_AWAITED]
        self.missing = [hole.not_awaited(hole.first, hole.last) for hole in self.missing]
        given_up, self.given_up = self.given_up, []
        return SeenIds(given_up=given_up + awaited)


class TradeDedupe(msgspec.Struct, array_like=True):
    """Which trades of one feed were published. `newest_ts`: the venue's time of the youngest of them, 0 for none, and
    `newest_first` the lowest id of that time."""

    view: str = ""
    view_ns: int = 0
    seen: SeenIds = msgspec.field(default_factory=SeenIds)
    newest_ts: int = 0
    before: SeenIds | None = None
    """The count before this one, for trades that are not younger than `before_ts`."""
    before_ts: int = 0
    newest_first: int = 0
    before_first: int = 0

    def admit(self, tick: TradeTick, now_ns: int, *, contiguous: bool) -> Verdict:
        """What a trade is, taken in where it is to be published. `now_ns`: log time."""
        if tick.view != self.view:
            if self.view and now_ns - self.view_ns < VIEW_SILENCE_NS:
                return "other view"
            self.view, self.seen, self.before = tick.view, self.seen.anew(), None
        self.view_ns = now_ns
        verdict = self._admit(tick, now_ns, contiguous)
        if verdict in ("new", "restart"):
            self._date(tick)
        return verdict

    def _date(self, tick: TradeTick) -> None:
        """Take in the time of a trade that is to be published."""
        ts = tick.ts_exchange
        if ts is not None and ts > self.newest_ts:
            self.newest_ts, self.newest_first = ts, tick.first_id
        elif ts == self.newest_ts and tick.first_id < self.newest_first:
            self.newest_first = tick.first_id

    def fill(self, tick: TradeTick) -> bool:
        """Take in a trade only where it was missing; whether it was."""
        if tick.view != self.view or tick.last_id == NO_ID:
            return False
        seen = self._of(tick)
        filled = not seen.has_some(tick.first_id, tick.last_id) and seen.fill(tick.first_id, tick.last_id)
        if filled:
            self._date(tick)
        return filled

    def _note(self, tick: TradeTick, last: int) -> None:
        """Keep what is known around a hole up to `last` that this trade has just shown."""
        hole = self.seen.missing[-1] if self.seen.missing else None
        if hole is not None and hole.last == last and hole.since != NOT_AWAITED and not hole.price:
            hole.from_ts, hole.to_ts, hole.price = self.newest_ts, tick.ts_exchange or 0, tick.price

    def doubt(self, tick: TradeTick) -> str | None:
        """Why a recovered trade cannot be the one that is missing; None where nothing speaks against it."""
        holes = self._of(tick).missing if tick.view == self.view else []
        hole = next((hole for hole in holes if hole.first <= tick.last_id <= hole.last), None)
        if hole is None or not hole.price:
            return None
        times, ts, price = [time for time in (hole.from_ts, hole.to_ts) if time], tick.ts_exchange, tick.price
        if times and ts is not None and not min(times) - NEAR_NS <= ts <= max(times) + NEAR_NS:
            return f"made at {ts} ns, the trades around it at {min(times)} to {max(times)}"
        if hole.price > 0 and not hole.price / NEAR_PRICE <= price <= hole.price * NEAR_PRICE:
            return f"a price of {price:.12g}, the trade behind it has {hole.price:.12g}"
        return None

    def go_on_behind(self, tick: TradeTick) -> None:
        """Count from behind a trade that another source has covered: what is missing after it is missed."""
        if self.seen.newest == NO_ID:
            self.view = tick.view
        if tick.view == self.view and tick.last_id > self.seen.newest and not self._jumps(tick):
            self.seen.last = tick.last_id

    def is_later(self, tick: TradeTick) -> bool:
        """Whether a trade comes after all those that were published, as far as its id tells."""
        known = tick.view == self.view and tick.last_id != NO_ID
        return not known or tick.first_id > self.seen.newest or self.restarts(tick)

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
        begins = seen.newest == NO_ID
        if contiguous and tick.first_id < tick.last_id and seen.has_some(tick.first_id, tick.last_id):
            seen.miss_to(tick.last_id, now_ns)
            self._note(tick, tick.last_id)
            return "overlap"
        if not self._jumps(tick):
            if _add(seen, tick, now_ns, contiguous):
                self._note(tick, tick.first_id - 1)
                # From before we listened: where counting begins, not news.
                return "resume point" if tick.resume and begins else "new"
            if not self.restarts(tick):
                return "repeat"
        self.before, self.before_ts, self.before_first = seen, self.newest_ts, self.newest_first
        self.seen, self.newest_first = seen.anew(), tick.first_id
        _add(self.seen, tick, now_ns, contiguous)
        return "restart"

    def restarts(self, tick: TradeTick) -> bool:
        """Whether a trade that is not new by its id begins a new count."""
        ts = tick.ts_exchange
        if ts is None or tick.last_id == NO_ID or tick.resume:
            return False
        return ts > self.newest_ts or (ts == self.newest_ts and tick.last_id < self.newest_first)

    def _jumps(self, tick: TradeTick) -> bool:
        return self.seen.newest != NO_ID and tick.first_id - self.seen.newest > JUMP_IDS


def _add(seen: SeenIds, tick: TradeTick, now_ns: int, contiguous: bool) -> bool:
    return seen.add(tick.first_id, tick.last_id, now_ns) if contiguous else seen.add_rising(tick.last_id)


class UpdateIds(msgspec.Struct, array_like=True):
    """Order and repeats of quotes or books by the venue's update id, which rises."""

    last: int = NO_ID
    recv_ns: int = 0

    def admit(self, update_id: int, recv_ns: int) -> bool:
        """Whether it is new. `recv_ns`: when its frame was received."""
        if update_id <= self.last and recv_ns - self.recv_ns < RESTART_NS:
            return False
        self.last, self.recv_ns = update_id, recv_ns
        return True


Said = tuple[float | None, float | None, float | None, float | None]


class QuoteDedupe(msgspec.Struct, array_like=True):
    """Which quotes of one feed were published: by update id, else by value within one time of the venue."""

    ids: UpdateIds = msgspec.field(default_factory=UpdateIds)
    newest_ts: int | None = None
    said: list[Said] = []
    """The quotes at `newest_ts`, of a venue that gives no update id."""

    def admit(self, tick: QuoteTick, recv_ns: int) -> bool:
        """Whether it is new. What is older than the newest is late or a repeat: a top of the book is only worth
        something while it is the latest."""
        if tick.update_id != NO_ID:
            return self.ids.admit(tick.update_id, recv_ns)
        said = (tick.bid, tick.bid_size, tick.ask, tick.ask_size)
        ts, newest = tick.ts_exchange, self.newest_ts
        if ts == newest:
            if said in self.said if ts is not None else self.said[-1:] == [said]:
                return False
            self.said = [*self.said[1 - MAX_SAME_TIME :], said] if ts is not None else [said]
        elif ts is not None and newest is not None and ts < newest and recv_ns - self.ids.recv_ns < RESTART_NS:
            return False
        else:
            self.newest_ts, self.said = ts, [said]
        self.ids.recv_ns = recv_ns
        return True
