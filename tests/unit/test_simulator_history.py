"""What the REST endpoints remember: exactly what was traded, as far back as there is room."""

from __future__ import annotations

from itertools import islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from mdstream.simulator.history import Aggregate, Fill, History
from mdstream.simulator.market import SECOND_NS, Instrument, Market, Order

START_NS = 1_767_625_200_000_000_000
FIRST_ID = 5_000


def traded(seed: int, orders: int, most: int = 1_000_000) -> tuple[Instrument, list[Order]]:
    """An instrument and all that it traded, an order a second."""
    market = Market(seed, FIRST_ID, History(most))
    of = market.instrument("venue", "BTC", "USDT", fewest_decimals=2, now_ns=START_NS)
    return of, [of.order(START_NS + i * SECOND_NS) for i in range(orders)]


def fills_of(orders: list[Order]) -> list[Fill]:
    return [Fill(f.trade_id, o.ts_ns, o.buy, f.ticks, f.lots) for o in orders for f in o.fills]


def aggregates_of(orders: list[Order]) -> list[Aggregate]:
    return [
        Aggregate(t.trade_id, t.first_id, t.last_id, o.ts_ns, o.buy, t.ticks, t.lots)
        for o in orders
        for t in o.aggregates
    ]


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(-5, 150), st.integers(-5, 150))
def test_tape_gives_back_what_was_traded(seed: int, orders: int, low: int, high: int) -> None:
    """Both id spaces, any range of them, in both directions; ids that are not there are not made up."""
    of, made = traded(seed, orders)
    fills, aggregates = fills_of(made), aggregates_of(made)
    first, last = FIRST_ID + low, FIRST_ID + high
    assert list(of.tape.fills(first, last)) == [f for f in fills if first <= f.trade_id <= last]
    assert list(of.tape.fills_back(last)) == [f for f in reversed(fills) if f.trade_id <= last]
    assert list(of.tape.aggregates(first)) == [t for t in aggregates if t.trade_id >= first]
    assert list(of.tape.aggregates_back(last)) == [t for t in reversed(aggregates) if t.trade_id <= last]


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(-2, 61))
def test_tape_finds_by_time(seed: int, orders: int, second: int) -> None:
    """The first one at that time or later."""
    of, made = traded(seed, orders)
    ts_ns = START_NS + second * SECOND_NS
    ids = [f.trade_id for f in fills_of(made) if f.ts_ns >= ts_ns]
    assert of.tape.id_at(ts_ns) == min(ids, default=of.tape.next_id)
    numbers = [t.trade_id for t in aggregates_of(made) if t.ts_ns >= ts_ns]
    assert of.tape.aggregate_at(ts_ns) == min(numbers, default=of.tape.next_aggregate_id)


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 50))
def test_tape_forgets_the_oldest_first(seed: int, orders: int, most: int) -> None:
    """At most an eighth more than asked for is kept, always the newest; an aggregate that lost a fill is gone whole."""
    of, made = traded(seed, orders, most)
    kept = list(of.tape.fills(0, of.tape.next_id))
    assert min(most, len(fills_of(made))) <= len(kept) <= most + most // 8
    assert kept == fills_of(made)[-len(kept) :]
    whole = [t for t in aggregates_of(made) if t.first_id >= kept[0].trade_id]
    assert list(of.tape.aggregates(0)) == whole


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 80), st.integers(0, 20))
def test_removed_trades_are_gone_and_nothing_else(seed: int, orders: int, place: int, length: int) -> None:
    """Trades that the venue lost are in no answer, and no id changes."""
    of, made = traded(seed, orders)
    first, last = FIRST_ID + place, FIRST_ID + place + length - 1
    of.tape.remove(first, last)
    lost = range(first, last + 1)
    assert list(of.tape.fills(0, of.tape.next_id)) == [f for f in fills_of(made) if f.trade_id not in lost]
    left = [t for t in aggregates_of(made) if all(i not in lost for i in range(t.first_id, t.last_id + 1))]
    assert list(of.tape.aggregates(0)) == left


def test_restarted_tape_starts_again() -> None:
    """After its ids began again a venue knows none of the old ones."""
    of, _ = traded(1, 10)
    of.tape.restart(1)
    assert list(of.tape.fills(0, 10**9)) == []
    assert list(of.tape.aggregates(0)) == []
    assert (of.tape.first_id, of.tape.next_id, of.tape.next_aggregate_id) == (1, 1, 1)


def test_history_is_shared_by_all_that_trade() -> None:
    """A hundred instruments together remember what one would; one without trades takes no room."""
    history = History(1000)
    market = Market(1, FIRST_ID, history)
    pairs = [market.instrument("venue", f"A{i}", "USDT", fewest_decimals=2, now_ns=START_NS) for i in range(100)]
    silent = market.instrument("venue", "B", "USDT", fewest_decimals=2, now_ns=START_NS)
    for _ in range(50):
        for of in pairs:
            of.order(START_NS)
    assert 1000 <= len(history) <= 1125
    assert all(len(of.tape) >= 10 for of in pairs)
    assert silent.tape.most == 0


def test_aggregates_are_contiguous() -> None:
    """f of one is l + 1 of the one before, as the venue has it."""
    of, _ = traded(3, 100)
    assert all(b.first_id == a.last_id + 1 for a, b in pairwise(islice(of.tape.aggregates(0), 100)))
