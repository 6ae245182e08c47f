"""Which quotes and books of one feed are new: by the venue's rising update id, else by value and time. Bounded."""

from __future__ import annotations

import msgspec

from mdstream.ticks import NO_ID, QuoteTick

RESTART_NS = 5_000_000_000
"""Update ids below the last one are a new count, not repeats, once no higher id has arrived for so long."""

MAX_SAME_TIME = 64
"""How many quotes without ids are remembered for one venue time."""


class UpdateIds(msgspec.Struct, array_like=True):
    """Recognises old and repeated quotes or books by the venue's rising update id."""

    last: int = NO_ID
    recv_ns: int = 0

    def admit(self, update_id: int, recv_ns: int) -> bool:
        """Whether it is new. `recv_ns`: when its frame was received."""
        if update_id <= self.last and recv_ns - self.recv_ns < RESTART_NS:
            return False
        self.last, self.recv_ns = update_id, recv_ns
        return True


QuoteValues = tuple[float | None, float | None, float | None, float | None]
"""Bid, its size, ask, its size."""


class QuoteDedupe(msgspec.Struct, array_like=True):
    """Which quotes of one feed were published: by update id, else by value at the same venue time."""

    ids: UpdateIds = msgspec.field(default_factory=UpdateIds)
    newest_ts: int | None = None
    values: list[QuoteValues] = []
    """The quotes at `newest_ts`, if the venue gives no update id."""

    def admit(self, tick: QuoteTick, recv_ns: int) -> bool:
        """Whether it is new. A quote older than the newest is late or a repeat: only the latest top of the book has any
        value."""
        if tick.update_id != NO_ID:
            return self.ids.admit(tick.update_id, recv_ns)
        values = (tick.bid, tick.bid_size, tick.ask, tick.ask_size)
        ts, newest = tick.ts_exchange, self.newest_ts
        if ts == newest:
            if values in self.values if ts is not None else self.values[-1:] == [values]:
                return False
            self.values = [*self.values[1 - MAX_SAME_TIME :], values] if ts is not None else [values]
        elif ts is not None and newest is not None and ts < newest and recv_ns - self.ids.recv_ns < RESTART_NS:
            return False
        else:
            self.newest_ts, self.values = ts, [values]
        self.ids.recv_ns = recv_ns
        return True
