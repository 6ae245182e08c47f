"""mdstream/audit: hops that hold the same trades agree in any order, and each kind of fault is found and named."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.audit.details import Details, Difference, differences
from mdstream.audit.ledger import Ledger, affordable, differing, neighbours
from mdstream.audit.numbering import Contents, Numbering
from mdstream.audit.seen import Ids, Numbers
from mdstream.audit.trades import DAY_NS, MINUTE_NS, AuditTrade, Bucket, Place, Scope, bucket_of, identity_of

START = 20_000 * DAY_NS
ALL = Scope()


def trade(
    number: int,
    *,
    symbol: str = "BTCUSDT",
    price: float = 1.5,
    side: str | None = "buy",
    time_ns: int | None = None,
    id_space: str = "",
) -> AuditTrade:
    """A Binance trade; its time is `number` seconds after START unless given."""
    at_ns = START + number * 1_000_000_000 if time_ns is None else time_ns
    return AuditTrade("binance", symbol, str(number), price, 2.0, side, at_ns, id_space)


def raw(trades: list[AuditTrade], scope: Scope = ALL) -> Ledger:
    ledger = Ledger("raw", scope, may_repeat=True)
    for one in trades:
        ledger.add(one)
    return ledger


def canonical(trades: list[AuditTrade], seqs: list[int] | None = None, scope: Scope = ALL) -> Ledger:
    """A hop that numbers its trades: 1, 2, 3, ... of each symbol unless `seqs` says otherwise."""
    ledger = Ledger("canonical", scope, may_repeat=False)
    for one, seq in zip(trades, seqs or range(1, len(trades) + 1), strict=True):
        ledger.add(one, seq, Place(3, 100 + seq))
    return ledger


def audit(before: list[AuditTrade], after: list[AuditTrade], seqs: list[int] | None = None) -> list[Difference]:
    """Both passes over a raw and a canonical hop."""
    left, right = raw(before), canonical(after, seqs)
    left.choose_id_spaces(right)
    wanted = differing([left, right])
    details = Details(left, wanted, may_repeat=True), Details(right, wanted, may_repeat=False)
    for one in before:
        details[0].add(one)
    for offset, (one, seq) in enumerate(zip(after, seqs or range(1, len(after) + 1), strict=True)):
        details[1].add(one, seq, Place(3, offset), repr(one).encode())
    return [*differences(*details, wanted), *details[1].own_differences()]


def test_hops_behind_an_end_come_after_the_one_before_it() -> None:
    """Each database is filled from the canonical topic, and knows nothing of the other."""
    hops = [Ledger(str(n), ALL, may_repeat=False, is_end=n in (2, 3)) for n in range(4)]
    assert list(neighbours(hops)) == [(0, 1), (1, 2), (1, 3)]
    assert list(neighbours(hops[:1])) == []


numbers = st.lists(st.integers(0, 300), min_size=1, max_size=60, unique=True)


# ------------------------------------------------------------------------------------------------------- what was seen


@given(st.lists(st.integers(-5, 60)))
def test_numbers_are_a_set(values: list[int]) -> None:
    """New the first time only, in whatever order; the holes are what is missing between the least and the greatest."""
    seen: set[int] = set()
    found = Numbers()
    for value in values:
        assert (value in found) is (value in seen)
        assert found.add(value) is (value not in seen)
        assert value in found
        seen.add(value)
    missing = [n for first, last in found.holes() for n in range(first, last + 1)]
    assert missing == [n for n in range(min(seen, default=0), max(seen, default=0)) if n not in seen]


def test_numbers_take_memory_per_run() -> None:
    """A day of a venue that counts by one is one run."""
    found = Numbers()
    for number in [*range(0, 1000, 2), *range(1, 1000, 2)]:
        found.add(number)
    assert found._first == [0]
    assert found._last == [999]


@given(st.lists(st.text(alphabet="0123456789ab²", max_size=4)))
def test_ids_are_a_set_of_texts(values: list[str]) -> None:
    """ "7" and "07" are two ids, and so is whatever else a venue writes."""
    seen: set[str] = set()
    found = Ids()
    for value in values:
        assert (value in found) is (value in seen)
        assert found.add(value) is (value not in seen)
        assert value in found
        seen.add(value)


# ---------------------------------------------------------------------------------------------------------- first pass


@given(numbers, st.randoms())
def test_order_of_arrival_does_not_change_a_ledger(ids: list[int], random: Random) -> None:
    """Partitions and readers deliver in any order: count and hash per bucket are the same."""
    trades = [trade(n, symbol=f"S{n % 3}USDT") for n in ids]
    shuffled = list(trades)
    random.shuffle(shuffled)
    assert differing([raw(trades), raw(shuffled)]) == set()
    assert raw(trades).total() == raw(shuffled).total()


@given(numbers, st.data())
def test_repeats_in_the_raw_topic_count_once(ids: list[int], data: st.DataObject) -> None:
    """A reconnect or a second replay adds no trade; how many came again is shown."""
    trades = [trade(n) for n in ids]
    again = data.draw(st.lists(st.sampled_from(trades), max_size=20))
    ledger = raw([*trades, *again])
    assert differing([ledger, canonical(trades)]) == set()
    assert ledger.total().repeats == len(again)


@given(numbers, st.data())
def test_a_trade_that_is_missing_is_found(ids: list[int], data: st.DataObject) -> None:
    """Exactly that one is named."""
    trades = [trade(n) for n in ids]
    lost = data.draw(st.sampled_from(trades))
    [found] = audit(trades, [one for one in trades if one != lost])
    assert (found.kind, found.hop, found.before, found.trade_id) == ("missing", "canonical", "raw", lost.trade_id)


@given(numbers, st.data())
def test_a_trade_that_nobody_sent_is_found(ids: list[int], data: st.DataObject) -> None:
    """The audit looks both ways."""
    trades = [trade(n) for n in ids]
    invented = data.draw(st.sampled_from(trades))
    [found] = audit([one for one in trades if one != invented], trades)
    assert (found.kind, found.trade_id, found.expected) == ("extra", invented.trade_id, "nothing")


@given(numbers, st.data())
def test_a_trade_under_two_numbers_is_doubled(ids: list[int], data: st.DataObject) -> None:
    """Consumers would count it twice: the numbers are named."""
    trades = [trade(n) for n in ids]
    twice = data.draw(st.sampled_from(trades))
    [found] = audit(trades, [*trades, twice])
    assert (found.kind, found.trade_id) == ("doubled", twice.trade_id)
    assert found.found == f"2 times, seq {trades.index(twice) + 1}, {len(trades) + 1}"
    assert found.places == (Place(3, trades.index(twice)), Place(3, len(trades)))


@given(numbers, st.data())
def test_a_trade_that_changed_is_found(ids: list[int], data: st.DataObject) -> None:
    """Another price, size or side, with both shown."""
    trades = [trade(n) for n in ids]
    at = data.draw(st.integers(0, len(trades) - 1))
    old = trades[at]
    others = [old._replace(price=1.5000001), old._replace(size=3.0), old._replace(side="sell"), old._replace(side=None)]
    changed = [*trades[:at], data.draw(st.sampled_from(others)), *trades[at + 1 :]]
    [found] = audit(trades, changed)
    assert (found.kind, found.trade_id, found.expected) == ("different", trades[at].trade_id, "buy 2.0 at 1.5")
    assert found.found != found.expected


@given(numbers, st.data())
def test_a_number_that_comes_again_with_the_same_bytes_is_no_fault(ids: list[int], data: st.DataObject) -> None:
    """A crash between output and checkpoint repeats events byte for byte: consumers drop them by their number."""
    trades = [trade(n) for n in ids]
    at = data.draw(st.integers(0, len(trades) - 1))
    seqs = [*range(1, len(trades) + 1), at + 1]
    assert audit(trades, [*trades, trades[at]], seqs) == []
    ledger = canonical([*trades, trades[at]], seqs)
    assert (ledger.total().repeats, ledger.total().doubled) == (1, 0)


def test_a_number_that_comes_again_with_other_bytes_is_rewritten() -> None:
    """
    trade_id   1  2  3  4
    seq        1  2  3  2     a reader drops trade 4 as a repeat of trade 2
    """
    trades = [trade(1), trade(2), trade(3)]
    [found] = audit([*trades, trade(4)], [*trades, trade(4)], [1, 2, 3, 2])
    assert (found.kind, found.trade_id, found.expected) == ("rewritten", "4", "seq 2 once")
    assert (found.seqs, found.places) == ((2,), (Place(3, 1), Place(3, 3)))


def test_numbers_that_are_missing_are_holes() -> None:
    """A consumer that counts would notice: so does the audit, per symbol, and says behind which record."""
    ledger = canonical([trade(1), trade(2), trade(3), trade(4)], [10, 11, 14, 16])
    assert list(ledger.numbering.holes()) == [
        ("BTCUSDT", 12, 13, Place(3, 114)),
        ("BTCUSDT", 15, 15, Place(3, 116)),
    ]


def test_numbers_outside_the_scope_leave_no_hole() -> None:
    """Numbers run through all minutes and providers of a symbol, whichever of them are audited."""
    scope = Scope(first_minute=START // MINUTE_NS + 1, providers=frozenset({"binance"}))
    trades = [trade(70), trade(10), trade(71)._replace(provider="okx"), trade(72)]
    ledger = canonical(trades, [1, 2, 3, 4], scope)
    assert list(ledger.numbering.holes()) == []
    assert ledger.total().count == 2


def test_a_hole_before_the_first_and_after_the_last_minute_is_none_of_this_audit() -> None:
    """
    minute   0        1           2
    seq      1   3    4  .  6     7   9       of minute 1 number 5 is missing
    """
    minute = START // MINUTE_NS + 1
    trades = [trade(n) for n in (1, 2, 60, 61, 120, 121)]
    ledger = canonical(trades, [1, 3, 4, 6, 7, 9], Scope(first_minute=minute, end_minute=minute + 1))
    assert [(hole.first, hole.last) for hole in ledger.numbering.holes()] == [(5, 5)]


def test_what_was_received_just_now_is_skipped_at_every_hop() -> None:
    """A late or repaired trade of an old minute is on its way like any other: one hop has it, the next not yet."""
    scope = Scope(received_before_ns=START + MINUTE_NS)
    old = [trade(n)._replace(received_ns=START + n) for n in (1, 2)]
    late = trade(3)._replace(received_ns=START + MINUTE_NS)
    left, right = raw([*old, late], scope), canonical(old, scope=scope)
    assert differing([left, right]) == set()
    assert left.total().count == 2
    details = Details(left, {bucket_of(late)}, may_repeat=True)
    details.add(late)
    assert details.of(bucket_of(late)) == {}


# ----------------------------------------------------------------------------------------------------------- numbering


@given(st.lists(st.tuples(st.integers(1, 30), st.sampled_from("abc")), max_size=60))
def test_a_number_with_two_contents_is_found_and_a_repeat_is_not(events: list[tuple[int, str]]) -> None:
    """Each record that is not what its number first was, with the place of the first."""
    numbering = Numbering(ALL)
    for offset, (seq, _) in enumerate(events):
        numbering.add("BTCUSDT", seq, 0, Place(1, offset))
    contents = Contents(numbering.repeated)
    first: dict[int, tuple[str, Place]] = {}
    for offset, (seq, value) in enumerate(events):
        known, where = first.setdefault(seq, (value, Place(1, offset)))
        found = contents.add("BTCUSDT", seq, value.encode(), Place(1, offset))
        assert found == (where if known != value else None)
    assert (numbering.events, numbering.repeats) == (len(first), len(events) - len(first))


def test_a_number_of_another_symbol_is_another_number() -> None:
    numbering = Numbering(Scope(symbols=frozenset({"BTCUSDT"})))
    for symbol in ("BTCUSDT", "ETHUSDT", "ETHUSDT"):
        numbering.add(symbol, 1, 0)
    assert (numbering.events, numbering.repeats, dict(numbering.repeated)) == (1, 0, {})
    assert Contents(numbering.repeated).add("ETHUSDT", 1, b"x", None) is None


@pytest.mark.parametrize(
    ("scope", "count"),
    [
        (Scope(), 3),
        (Scope(first_minute=START // MINUTE_NS + 1), 2),
        (Scope(end_minute=START // MINUTE_NS + 1), 1),
        (Scope(symbols=frozenset({"ETHUSDT"})), 1),
        (Scope(providers=frozenset({"okx"})), 0),
    ],
)
def test_scope_takes_minutes_symbols_and_providers(scope: Scope, count: int) -> None:
    """The first minute is in, the last is not."""
    trades = [trade(59), trade(60), trade(61, symbol="ETHUSDT")]
    assert raw(trades, scope).total().count == count


def test_minutes_are_distinguished() -> None:
    """Two faults that cancel out over an hour do not within their minutes."""
    before, after = [trade(1), trade(2)], [trade(1), trade(2, time_ns=START + MINUTE_NS)]
    minute = START // MINUTE_NS
    assert differing([raw(before), raw(after)]) == {
        Bucket("binance", "BTCUSDT", minute),
        Bucket("binance", "BTCUSDT", minute + 1),
    }


def test_ids_that_restart_each_day_are_other_trades() -> None:
    """What is the same trade has the same time."""
    ledger = raw([trade(1), trade(1, time_ns=START + DAY_NS), trade(1)])
    assert (ledger.total().count, ledger.total().repeats) == (2, 1)


def test_trades_without_an_id_all_count() -> None:
    """Nothing distinguishes two of them but the number at the canonical hop."""
    nameless = [trade(n)._replace(trade_id="") for n in (1, 2)]
    assert raw(nameless).total().count == 2
    assert canonical([*nameless, nameless[0]], [1, 2, 1]).total().count == 2
    assert audit(nameless, nameless) == []


# ----------------------------------------------------------------------------------------------------------- id spaces


def test_id_space_that_the_next_hop_took_is_the_one_compared() -> None:
    """
    raw        trade 1 2 3 4 5, aggTrade 1 3     the same executions, reported twice
    canonical  aggTrade                          it came first, and the canonical stream stays with it
    """
    fills = [trade(n, id_space="trade") for n in (1, 2, 3, 4, 5)]
    aggregates = [trade(n, id_space="aggTrade") for n in (1, 3)]
    left, right = raw([*aggregates, *fills]), canonical([one._replace(id_space="") for one in aggregates])
    left.choose_id_spaces(right)
    assert differing([left, right]) == set()
    assert left.set_aside == {("binance", "BTCUSDT", "trade"): 5}


def test_id_space_with_most_trades_is_compared_where_the_next_hop_has_neither() -> None:
    """A loss is not hidden by comparing with the smaller id space."""
    left = raw([trade(1, id_space="aggTrade"), trade(1, id_space="trade"), trade(2, id_space="trade")])
    right = canonical([])
    left.choose_id_spaces(right)
    assert left.total().count == 2
    assert differing([left, right])


# ------------------------------------------------------------------------------------------------------ resume points


def test_a_trade_that_is_discounted_is_not_compared() -> None:
    """
    raw        0  1  2     0 answered the first subscription: history to a reader who was not there before
    canonical     1  2
    """
    trades = [trade(0), trade(1), trade(2)]
    left, right = raw(trades), canonical(trades[1:])
    assert not right.holds(trades[0])
    left.discount(trades[0])
    right.discount(trades[0])  # not there: nothing changes
    assert differing([left, right]) == set()
    wanted = {bucket_of(trades[0])}
    detail = Details(left, wanted, may_repeat=True, ignored={identity_of(trades[0])})
    for one in trades:
        detail.add(one)
    assert list(detail.of(bucket_of(trades[0]))) == ["1", "2"]


def test_a_trade_in_an_id_space_is_held_by_a_hop_without_id_spaces() -> None:
    """The canonical topic has no id spaces."""
    assert canonical([trade(1)]).holds(trade(1, id_space="aggTrade"))
    assert not canonical([trade(1)]).holds(trade(2, id_space="aggTrade"))


# --------------------------------------------------------------------------------------------------------- second pass


def test_trades_compared_one_by_one_are_bounded() -> None:
    """The earliest minutes first, at least one of them."""
    hops = [raw([trade(n) for n in range(180)])]
    buckets = {bucket_of(trade(n)) for n in (0, 60, 120)}
    first, second, _ = sorted(buckets)
    assert affordable(hops, buckets, 130) == {first, second}
    assert affordable(hops, buckets, 1) == {first}
    assert affordable(hops, buckets, 180) == buckets


def test_every_pair_of_neighbours_is_compared() -> None:
    """A trade that is lost at the last hop is no fault of those before."""
    trades = [trade(1), trade(2)]
    hops = [raw(trades), canonical(trades), raw(trades[:1])]
    wanted = differing(hops)
    details = [Details(hop, wanted, may_repeat=True) for hop in hops]
    for detail, held in zip(details, (trades, trades, trades[:1]), strict=True):
        for one in held:
            detail.add(one)
    found = [list(differences(left, right, wanted)) for left, right in pairwise(details)]
    assert [len(one) for one in found] == [0, 1]


def test_trade_that_comes_again_in_the_raw_topic_is_no_fault() -> None:
    """Redundant lines and replays repeat trades there."""
    detail = Details(raw([trade(1)]), {bucket_of(trade(1))}, may_repeat=True)
    for seq in (1, 1, 2):
        detail.add(trade(1), seq)
    assert list(detail.own_differences()) == []


def test_place_is_partition_and_offset() -> None:
    assert str(Place(3, 105)) == "3:105"
