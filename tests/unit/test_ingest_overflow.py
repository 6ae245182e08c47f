"""The overflow: oldest first, bounded, and what is dropped when there is no room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mdstream.ingest.overflow import DROPPABLE, Limits, Overflow, Waiting

ENDLESS = 1 << 40
TRADE, QUOTE, BOOK, HEARTBEAT, STATUS = b"trade", b"quote", b"book", b"heartbeat", b"status"


def waiting(kind: bytes, value: bytes = b"x", queue: int = 0) -> Waiting:
    headers = [("p", b"okx"), ("t", b""), ("k", kind), ("via", b"ws")]
    return Waiting(queue, (b"BTCUSDT", value, 0, headers), len(value))


def filled(overflow: Overflow[Waiting], *kinds: bytes) -> Overflow[Waiting]:
    for kind in kinds:
        overflow.add(waiting(kind))
    return overflow


def kinds(overflow: Overflow[Waiting]) -> list[bytes]:
    return [each.kind for each in overflow.first(ENDLESS)]


def test_overflow_gives_its_oldest_records_first() -> None:
    """Within a size, at least one; they stay until they are removed."""
    overflow = Overflow[Waiting]()
    for value in (b"aa", b"bb", b"cc"):
        overflow.add(waiting(TRADE, value))
    first = overflow.first(4)
    assert [w.record[1] for w in first] == [b"aa", b"bb"]
    assert (len(overflow), overflow.bytes) == (3, 6)
    overflow.remove(first)
    assert (len(overflow), overflow.bytes) == (1, 2)
    assert len(overflow.first(1)) == 1


def test_heartbeats_are_left_out_from_80_percent_and_quotes_and_books_from_90() -> None:
    """Trades and status go on."""
    overflow = filled(Overflow[Waiting](Limits(records=10)), *[TRADE] * 7, HEARTBEAT, HEARTBEAT, QUOTE)
    assert overflow.dropped == Counter({HEARTBEAT: 1})
    filled(overflow, QUOTE, BOOK, HEARTBEAT)
    assert overflow.dropped == Counter({HEARTBEAT: 2, QUOTE: 1, BOOK: 1})
    assert kinds(overflow) == [*[TRADE] * 7, HEARTBEAT, QUOTE]


def test_oldest_records_make_room_and_trades_are_dropped_last() -> None:
    """The quotes that are there go before any trade."""
    overflow = filled(Overflow[Waiting](Limits(records=10)), QUOTE, QUOTE, *[TRADE] * 8)
    assert overflow.dropped == Counter({QUOTE: 1})
    assert kinds(overflow) == [QUOTE, *[TRADE] * 8]
    filled(overflow, TRADE)
    assert overflow.dropped == Counter({QUOTE: 2})
    filled(overflow, TRADE)
    assert overflow.dropped == Counter({QUOTE: 2, TRADE: 1})
    assert kinds(overflow) == [TRADE] * 9


def test_what_was_dropped_meanwhile_is_not_removed_twice() -> None:
    """Records can be dropped while others, or the same, are being written."""
    overflow = filled(Overflow[Waiting](Limits(records=10)), *[QUOTE] * 5, *[TRADE] * 4)
    first = overflow.first(ENDLESS)
    filled(overflow, TRADE, TRADE)
    overflow.remove(first)
    assert kinds(overflow) == [TRADE, TRADE]
    assert overflow.bytes == 2


@given(st.lists(st.tuples(st.sampled_from(DROPPABLE), st.binary(max_size=30)), max_size=200))
def test_overflow_is_bounded_keeps_order_and_counts_what_it_drops(added: list[tuple[bytes, bytes]]) -> None:
    """Whatever comes. No trade is dropped while anything else is there to be dropped."""
    overflow = Overflow[Waiting](Limits(records=40, bytes=400))
    given_ = [waiting(kind, value, queue) for queue, (kind, value) in enumerate(added)]
    for each in given_:
        trades = overflow.dropped[TRADE]
        overflow.add(each)
        if overflow.dropped[TRADE] > trades:
            assert set(kinds(overflow)) <= {TRADE, STATUS}
    left = overflow.first(ENDLESS)
    assert overflow.fill < 1.0
    assert overflow.bytes == sum(each.size_bytes for each in left)
    assert [each.queue for each in left] == sorted(each.queue for each in left)
    assert Counter(each.kind for each in left) + overflow.dropped == Counter(each.kind for each in given_)
