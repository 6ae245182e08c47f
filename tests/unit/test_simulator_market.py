"""The market: its invariants, and that the seed determines it."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from mdstream.simulator.market import BOOK_LEVELS, SECOND_NS, Book, Instrument, Levels, Market, Order, Top

START_NS = 1_767_625_200_000_000_000
FIRST_ID = 5_000

seeds = st.integers(min_value=0, max_value=2**32)
pairs = st.sampled_from(
    [("BTC", "USDT"), ("ETH", "BTC"), ("DOGE", "BTC"), ("BTC", "JPY"), ("NEWCOIN", "EUR"), ("USDC", "USDT")]
)
steps = st.lists(
    st.tuples(st.sampled_from(["order", "quote", "book"]), st.sampled_from([-SECOND_NS, 0, 1000, SECOND_NS, 10**13])),
    max_size=60,
)


def instrument(seed: int, pair: tuple[str, str]) -> Instrument:
    return Market(seed, FIRST_ID).instrument("venue", *pair, fewest_decimals=2, now_ns=START_NS)


def run(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> list[Order | Top | Book]:
    """What an instrument does when it is asked for `steps`, each (what, ns after the step before)."""
    of, now_ns, events = instrument(seed, pair), START_NS, []
    for what, wait_ns in steps:
        now_ns += wait_ns
        events.append(getattr(of, what)(now_ns))
    return events


@given(seeds, pairs, steps)
def test_market_is_the_same_for_the_same_seed(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    """Seed and calls decide everything."""
    assert run(seed, pair, steps) == run(seed, pair, steps)


def test_market_is_another_for_another_seed() -> None:
    """The seed has an effect."""
    steps = [("order", SECOND_NS)] * 5
    assert run(1, ("BTC", "USDT"), steps) != run(2, ("BTC", "USDT"), steps)


@given(seeds, pairs, steps)
def test_ids_go_up_by_one(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    """Trades, and merged trades with ids of their own, are numbered without a hole from the first id on."""
    orders = [event for event in run(seed, pair, steps) if isinstance(event, Order)]
    ids = [fill.trade_id for order in orders for fill in order.fills]
    aggregates = [trade.trade_id for order in orders for trade in order.aggregates]
    assert ids == list(range(FIRST_ID, FIRST_ID + len(ids)))
    assert aggregates == list(range(FIRST_ID, FIRST_ID + len(aggregates)))


@given(seeds, pairs, steps)
def test_update_ids_and_times_never_fall(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    """Update ids rise with every event, and the time of an event is never before the last one's."""
    events = run(seed, pair, steps)
    for before, after in pairwise(events):
        assert after.update_id > before.update_id
        assert after.ts_ns >= before.ts_ns


@given(seeds, pairs, steps)
def test_book_is_never_crossed(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    """0 < bid < ask, twenty levels a side strictly away from the top, and nothing without a size."""
    for event in run(seed, pair, steps):
        match event:
            case Top(bid=bid, ask=ask, bid_lots=bid_lots, ask_lots=ask_lots):
                assert 0 < bid < ask
                assert min(bid_lots, ask_lots) > 0
            case Book(bids=bids, asks=asks):
                prices = [ticks for ticks, _ in reversed(bids)] + [ticks for ticks, _ in asks]
                assert prices == sorted(set(prices))
                assert prices[0] > 0
                assert len(bids) == len(asks) == BOOK_LEVELS
                assert min(lots for _, lots in bids + asks) > 0


@given(seeds, pairs, steps)
def test_changes_make_a_book_of_the_one_before(seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]) -> None:
    """A client that applies the changes of every book has the book; each names the book that its changes apply to."""
    bids: dict[int, int] = {}
    asks: dict[int, int] = {}
    before = None
    for book in (event for event in run(seed, pair, steps) if isinstance(event, Book)):
        for side, changes in ((bids, book.bid_changes), (asks, book.ask_changes)):
            apply(side, changes)
        assert sorted(bids.items(), reverse=True) == book.bids
        assert sorted(asks.items()) == book.asks
        assert before is None or book.previous_id == before.update_id
        before = book


def apply(side: dict[int, int], changes: Levels) -> None:
    for ticks, lots in changes:
        if lots:
            side[ticks] = lots
        else:
            del side[ticks]


@given(seeds, pairs, st.integers(min_value=1, max_value=20))
def test_fills_only_get_worse_for_the_taker(seed: int, pair: tuple[str, str], most: int) -> None:
    """An order walks away from the top, fills at least once and no more often than it may; merging loses nothing."""
    of = instrument(seed, pair)
    for i in range(20):
        order = of.order(START_NS + i * SECOND_NS, most)
        ticks = [fill.ticks for fill in order.fills]
        assert 1 <= len(ticks) <= most
        assert ticks == sorted(ticks, reverse=not order.buy)
        assert ticks[0] == (of.top.ask if order.buy else of.top.bid)
        assert sum(t.count for t in order.merged) == len(order.fills)
        assert sum(t.lots for t in order.merged) == sum(f.lots for f in order.fills)
        assert [t.last_id for t in order.merged] == [t.trade_id for t in order.merged]
        assert of.last == order.fills[-1]


@given(seeds, st.lists(st.integers(min_value=0, max_value=3600 * SECOND_NS), min_size=1, max_size=50))
def test_price_stays_within_reach(seed: int, waits: list[int]) -> None:
    """However long it wanders, a price keeps its order of magnitude."""
    of, now_ns = instrument(seed, ("BTC", "USDT")), START_NS
    for wait_ns in waits:
        now_ns += wait_ns
        assert 93741 / 3 < of.quote(now_ns).bid / 10**of.price_decimals < 93741 * 3


def test_price_of_an_asset_is_nearly_the_same_everywhere() -> None:
    """Venues share what an asset is worth, so that one can stand in for another."""
    market = Market(1, FIRST_ID)
    of = [
        market.instrument(venue, "BTC", quote, fewest_decimals=2, now_ns=START_NS)
        for venue, quote in (("a", "USDT"), ("b", "USD"))
    ]
    for i in range(1000):
        a, b = (instrument.quote(START_NS + i * SECOND_NS).bid for instrument in of)
        assert abs(a - b) < a * 0.002


def test_price_moves_and_bursts() -> None:
    """A price changes, and at some times far more than at others."""
    of = instrument(1, ("BTC", "USDT"))
    bids = [of.quote(START_NS + i * SECOND_NS).bid for i in range(2000)]
    moves = sorted(abs(b - a) for a, b in pairwise(bids))
    assert moves[len(moves) // 2] > 0
    assert moves[-len(moves) // 50] > 4 * moves[len(moves) // 2]


@given(seeds, pairs, steps, steps)
def test_restart_begins_all_ids_again(
    seed: int, pair: tuple[str, str], before: list[tuple[str, int]], after: list[tuple[str, int]]
) -> None:
    """From the id asked for, without a hole; the last trade is the one before it, and the old ones are forgotten."""
    of, now_ns = instrument(seed, pair), START_NS
    for what, _ in before:
        getattr(of, what)(now_ns)
    of.restart(7)
    assert (of.last.trade_id, of.last_order.first_aggregate_id) == (6, 6)
    orders = [event for what, _ in after if isinstance(event := getattr(of, what)(now_ns), Order)]
    ids = [fill.trade_id for order in orders for fill in order.fills]
    aggregates = [trade.trade_id for order in orders for trade in order.aggregates]
    assert ids == list(range(7, 7 + len(ids))) == [fill.trade_id for fill in of.tape.fills(0, 10**18)]
    assert aggregates == list(range(7, 7 + len(aggregates)))


@given(seeds, pairs, steps)
def test_clock_that_is_off_changes_the_times_alone(
    seed: int, pair: tuple[str, str], steps: list[tuple[str, int]]
) -> None:
    """Prices, sizes and ids are as with a correct clock, and so is everything after its correction."""
    right, wrong, now_ns = instrument(seed, pair), instrument(seed, pair), START_NS
    for i, (what, wait_ns) in enumerate(steps):
        now_ns += wait_ns
        wrong.clock_off_ns = -5 * SECOND_NS if i % 3 else 0
        true, reported = getattr(right, what)(now_ns), getattr(wrong, what)(now_ns)
        assert reported.ts_ns == true.ts_ns + wrong.clock_off_ns
        assert structs.replace(reported, ts_ns=true.ts_ns) == true
