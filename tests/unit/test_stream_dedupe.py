"""Which ids were seen: exact for integer ids while holes are few, a window for opaque ones, bounded either way.

add      1..3   7..9    4..5      2        6..8
missing    -    4..6      6       6          -
new       yes   yes     yes     no (seen)  yes (6 is)
"""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.stream.dedupe import (
    EARLIER_IDS,
    ID_SPACE_SILENCE_NS,
    JUMP_IDS,
    MAX_HOLES,
    MAX_RECENT,
    NEAR_NS,
    NEAR_PRICE,
    NOT_AWAITED,
    Hole,
    SeenIds,
    TradeDedupe,
)
from mdstream.ticks import NO_ID, TradeTick

NOW = 1_767_625_200_000_000_000
NEAR_MS = NEAR_NS // 10**6

RANGES = st.tuples(st.integers(0, 120), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def holes_of(ids: SeenIds) -> list[tuple[int, int]]:
    """What is awaited."""
    return [(hole.first, hole.last) for hole in ids.missing if hole.since != NOT_AWAITED]


def missing_of(seen: set[int]) -> list[tuple[int, int]]:
    """The holes between the first and the last id of `seen`, as the state holds them."""
    holes: list[tuple[int, int]] = []
    for identity in range(min(seen), max(seen)):
        if identity in seen:
            continue
        if holes and holes[-1][1] == identity - 1:
            holes[-1] = (holes[-1][0], identity)
        else:
            holes.append((identity, identity))
    return holes


@given(st.lists(RANGES, min_size=1, max_size=60))
def test_add_is_new_exactly_where_an_id_was_not_seen(ranges: list[tuple[int, int]]) -> None:
    """Against the set of all ids: new where any of first..last is not in it; awaited: what is missing from the first id
    on. Ids a little before the first are new too: lines are reordered there as anywhere."""
    ids, seen = SeenIds(), set[int]()
    lowest = ranges[0][0]
    for first, last in ranges:
        fresh = set(range(first, last + 1)) - seen
        assert ids.add(first, last, NOW) is bool(fresh)
        seen |= fresh
        assert ids.last == max(seen)
        assert holes_of(ids) == missing_of({identity for identity in seen if identity >= lowest})


@given(st.lists(RANGES, min_size=1, max_size=40))
def test_adding_again_is_never_new(ranges: list[tuple[int, int]]) -> None:
    """A replay of the same ids, from the first, finds nothing new."""
    ids = SeenIds()
    for first, last in ranges:
        ids.add(first, last, NOW)
    before = msgspec.msgpack.encode(ids)
    assert not any(ids.add(first, last, NOW) for first, last in ranges)
    assert msgspec.msgpack.encode(ids) == before


def test_ids_far_before_the_first_are_repeats() -> None:
    """What may be new before the first id is bounded: beyond it lies the time before us."""
    ids = SeenIds()
    assert ids.add(10_000, 10_000, NOW)
    assert ids.add(10_000 - EARLIER_IDS, 10_000 - EARLIER_IDS, NOW)
    assert not ids.add(9_999 - EARLIER_IDS, 9_999 - EARLIER_IDS, NOW)


@given(st.lists(RANGES, min_size=1, max_size=30), st.lists(RANGES, max_size=30))
def test_parked_ids_go_on_without_a_hole(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    """While another source is followed nothing is missed: the next higher id has no hole before it; older ones stay."""
    ids = SeenIds()
    for first, last in before:
        ids.add(first, last, NOW)
    awaited, newest = holes_of(ids), ids.last
    ids.park()
    ids.park()
    assert ids.last == newest
    for first, last in after:
        if first > newest:
            assert ids.add(first, last, NOW)
            assert (ids.last, holes_of(ids)) == (last, awaited)
            return
        assert ids.add(first, min(last, newest), NOW) is any(
            low <= last and high >= first for low, high in awaited
        ) or (first < before[0][0])
        awaited = holes_of(ids)


@given(st.lists(RANGES, min_size=1, max_size=40), RANGES)
def test_what_was_given_up_is_new_but_not_awaited(ranges: list[tuple[int, int]], lost: tuple[int, int]) -> None:
    """Trades that nobody has any more: if one comes all the same, it is published."""
    ids, seen = SeenIds(), set[int]()
    for first, last in ranges:
        ids.add(first, last, NOW)
        seen |= set(range(first, last + 1))
    ids.give_up(*lost)
    assert ids.missing_within(*lost)[0] == 0
    for identity in range(lost[0], min(lost[1], ids.last) + 1):
        assert ids.add(identity, identity, NOW) is (identity not in seen)


@given(st.lists(RANGES, max_size=40), st.lists(st.text(max_size=8), max_size=20))
def test_state_round_trips_through_a_checkpoint(ranges: list[tuple[int, int]], opaque: list[str]) -> None:
    """The fields are the whole state: what is read back answers alike."""
    ids = SeenIds()
    for first, last in ranges:
        ids.add(first, last, NOW)
    for identity in opaque:
        ids.add_opaque(identity)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(ids), type=SeenIds)
    assert again == ids
    assert list(again.recent) == list(ids.recent)
    for first, last in ranges:
        assert again.add(first, last + 1, NOW) is ids.add(first, last + 1, NOW)


def test_fresh_states_share_nothing() -> None:
    """Holes of one instrument never show in another's."""
    one, other = SeenIds(), SeenIds()
    one.add(1, 1, NOW)
    one.add(5, 5, NOW)
    one.add_opaque("a")
    assert (other.last, other.missing, other.recent) == (NO_ID, [], {})


@pytest.mark.parametrize("first", [0, 1, 5_680_123_456, 2**63 - 10])
def test_first_ids_are_new_whatever_they_are(first: int) -> None:
    """A feed may begin anywhere; what is before its first id is not awaited."""
    ids = SeenIds()
    assert ids.add(first, first + 2, NOW)
    assert holes_of(ids) == []


def test_range_that_bridges_a_hole_and_the_end_is_one_new_event() -> None:
    """seen 1..3 7..9, then 5..11: new, and only 4 is missing."""
    ids = SeenIds()
    ids.add(1, 3, NOW)
    ids.add(7, 9, NOW)
    assert ids.add(5, 11, NOW)
    assert (ids.last, holes_of(ids)) == (11, [(4, 4)])


def test_holes_are_bounded_and_the_oldest_given_up_first() -> None:
    """Beyond MAX_HOLES the oldest is forgotten: a late id in it counts as a repeat, one in a younger hole as new."""
    ids = SeenIds()
    for identity in range(0, 4 * MAX_HOLES, 2):
        ids.add(identity, identity, NOW)
    assert len(ids.missing) == MAX_HOLES
    assert ids.given_up[0] == Hole(1, 1, NOW)  # reported as given up
    assert not ids.add(1, 1, NOW)
    assert ids.add(4 * MAX_HOLES - 3, 4 * MAX_HOLES - 3, NOW)


def test_holes_stay_bounded_when_one_is_split() -> None:
    """An id in the middle of a hole makes two of it, at the limit too."""
    ids = SeenIds()
    for identity in range(0, 10 * (MAX_HOLES + 1), 10):
        ids.add(identity, identity, NOW)
    assert len(ids.missing) == MAX_HOLES
    assert ids.add(10 * MAX_HOLES - 5, 10 * MAX_HOLES - 5, NOW)
    assert len(ids.missing) == MAX_HOLES
    assert ids.add(10 * MAX_HOLES - 9, 10 * MAX_HOLES - 9, NOW)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_opaque_id_is_new_once(identities: list[str]) -> None:
    """Inside the window each id is new the first time and a repeat ever after."""
    ids, seen = SeenIds(), set[str]()
    for identity in identities:
        assert ids.add_opaque(identity) is (identity not in seen)
        seen.add(identity)


def test_opaque_ids_are_bounded_and_the_oldest_forgotten_first() -> None:
    """The window holds MAX_RECENT ids."""
    ids = SeenIds()
    for number in range(MAX_RECENT + 1):
        assert ids.add_opaque(str(number))
    assert len(ids.recent) == MAX_RECENT
    assert not ids.add_opaque("1")
    assert ids.add_opaque("0")


# -- rising ids


@given(st.permutations(range(5, 400, 3)), st.integers(0, 3))
def test_rising_id_is_new_once_within_the_window(numbers: list[int], line: int) -> None:
    """However redundant connections shuffle them, while no more than MAX_RECENT lie between a trade and its copy."""
    ids = SeenIds()
    assert all(ids.add_rising(number) for number in numbers)
    assert not any(ids.add_rising(number) for number in numbers[line:])


def test_rising_id_below_all_that_is_remembered_is_a_repeat() -> None:
    """What was forgotten was seen: so anything below the highest of it counts as seen."""
    ids = SeenIds()
    for number in range(0, 10 * (MAX_RECENT + 5), 10):
        assert ids.add_rising(number)
    assert len(ids.recent) == MAX_RECENT
    assert not ids.add_rising(40)
    assert not ids.add_rising(33)
    assert ids.add_rising(10 * MAX_RECENT - 1)


# -- aggregates


def aggregate(first: int, last: int, *, recovered: bool = False) -> TradeTick:
    """As OKX's channel `trades`: the id is the last one's, the time that of its order."""
    ts, fills = NOW + last * 1_000_000, last - first + 1
    return TradeTick("BTCUSDT", str(last), 1.0, fills, "buy", ts, first, last, fills, "trades", False, recovered)


@given(st.lists(st.tuples(st.booleans(), RANGES), max_size=30))
def test_no_id_is_counted_twice_and_what_is_not_counted_is_missing(
    arrivals: list[tuple[bool, tuple[int, int]]],
) -> None:
    """Live aggregates in any order and with any overlap, and single fills that a repair brings in between."""
    dedupe, counted = TradeDedupe(), list[int]()
    dedupe.admit(aggregate(0, 0), NOW, contiguous=True)
    for recovered, (first, last) in arrivals:
        if recovered:
            taken, first = dedupe.fill(aggregate(last, last, recovered=True)), last
        else:
            verdict = dedupe.admit(aggregate(first, last), NOW, contiguous=True)
            assert verdict in ("new", "repeat", "overlap")
            taken = verdict == "new"
        counted += range(first, last + 1) if taken else ()
    assert len(counted) == len(set(counted))
    missing = [identity for hole in dedupe.seen.missing for identity in range(hole.first, hole.last + 1)]
    assert sorted(counted + missing) == list(range(1, dedupe.seen.last + 1))


def test_aggregate_that_goes_on_behind_a_repaired_id_is_missed_from_there_on() -> None:
    """5 was repaired; 4..7 comes: its size holds 5's, so 4, 6 and 7 are asked for one by one."""
    dedupe = TradeDedupe()
    for first, last in ((1, 3), (8, 8)):
        assert dedupe.admit(aggregate(first, last), NOW, contiguous=True) == "new"
    assert dedupe.fill(aggregate(5, 5, recovered=True))
    assert dedupe.admit(aggregate(4, 7), NOW, contiguous=True) == "overlap"
    assert not dedupe.fill(aggregate(4, 7))
    assert dedupe.admit(aggregate(8, 10), NOW, contiguous=True) == "overlap"
    assert holes_of(dedupe.seen) == [(4, 4), (6, 7), (9, 10)]
    assert dedupe.admit(aggregate(11, 12), NOW, contiguous=True) == "new"


# -- what a repair brings


@pytest.mark.parametrize(
    ("at_ms", "price", "believed"),
    [
        (15, 100.0, True),
        (10 - NEAR_MS, 100.0, True),
        (20 + NEAR_MS, 100.0, True),
        (9 - NEAR_MS, 100.0, False),
        (21 + NEAR_MS, 100.0, False),
        (15, 100.0 * NEAR_PRICE, True),
        (15, 101.0 * NEAR_PRICE, False),
        (15, 99.0 / NEAR_PRICE, False),
    ],
)
def test_recovered_trade_is_compared_with_its_neighbours(at_ms: int, price: float, believed: bool) -> None:
    """
    id     10      11 12 13 14      15
    at     10 ms                    20 ms       (and NEAR_MS) also once 12 is there, and the hole in two parts
    """
    dedupe = TradeDedupe()
    for number in (10, 15):
        tick = trade(number, NEAR_MS + 2 * number - 10)
        tick.price = 100.0
        assert dedupe.admit(tick, NOW, contiguous=True) == "new"
    assert dedupe.fill(trade(12, NEAR_MS + 15))
    for number in (11, 13):
        found = trade(number, NEAR_MS + at_ms)
        found.price = price
        assert (dedupe.contradiction(found) is None) is believed


# -- trades: whose count an id belongs to


def trade(number: int, at_ms: int, *, id_space: str = "", resume: bool = False) -> TradeTick:
    ts = None if at_ms < 0 else NOW + at_ms * 1_000_000
    return TradeTick("BTCUSDT", str(number), 1.0, 1.0, "buy", ts, number, number, 1, id_space, resume)


def verdicts(*ticks: TradeTick, contiguous: bool = True) -> list[str]:
    dedupe = TradeDedupe()
    return [dedupe.admit(tick, NOW, contiguous=contiguous) for tick in ticks]


def test_restarted_count_is_distinguished_from_a_repeat_by_time() -> None:
    """A copy is as old as its original; a lower id that is younger than all is the first of a new count."""
    old = [trade(5_000 + n, n) for n in range(3)]
    assert verdicts(*old, old[1], trade(1, 50), trade(2, 51), trade(3, 51)) == (
        ["new"] * 3 + ["repeat", "restart", "new", "new"]
    )


def test_new_count_within_one_tick_of_the_venues_clock_is_recognised_by_the_ids_of_that_time() -> None:
    """The newest trade's very time, and an id below all that had it: no copy. Late and repeated ones are known."""
    old = [trade(5_000, 0), trade(5_003, 1), trade(5_002, 1), trade(5_002, 1)]
    assert verdicts(*old, trade(1, 1), trade(2, 1), trade(5_003, 1), trade(1, 1)) == (
        ["new", "new", "new", "repeat", "restart", "new", "repeat", "repeat"]
    )


def test_lagging_connection_of_the_previous_count_is_still_deduplicated() -> None:
    """A sends 5010 5011 5013, then counts from 1; B, behind, sends 5012 and 5013 of the old count."""
    reported = verdicts(
        *(trade(5_000 + n, n) for n in (10, 11, 13)),
        trade(1, 20),
        *(trade(5_000 + n, n) for n in (12, 13)),
        *(trade(2, 21), trade(1, 20)),
    )
    assert reported == ["new", "new", "new", "restart", "new", "repeat", "new", "repeat"]


def test_reordering_where_a_count_begins_loses_nothing() -> None:
    """The third trade of a new count comes first: the two before it are news as well."""
    reported = verdicts(trade(9_000, 0), trade(3, 12), trade(1, 10), trade(2, 11), trade(4, 13), trade(2, 11))
    assert reported == ["new", "restart", "new", "new", "new", "repeat"]


@pytest.mark.parametrize("at_ms", [5, 0, -1], ids=["younger", "same time", "no time"])
def test_jump_that_nobody_can_have_missed_is_a_new_count(at_ms: int) -> None:
    """Ten million trades are not a gap to be filled one by one."""
    assert verdicts(trade(1, 0), trade(2 + JUMP_IDS, at_ms)) == ["new", "restart"]
    assert verdicts(trade(1, 0), trade(1 + JUMP_IDS, at_ms)) == ["new", "new"]


def test_holes_of_the_count_before_are_given_up() -> None:
    """They can no longer be distinguished from trades of the new count: they are reported as given up."""
    dedupe = TradeDedupe()
    for tick in (trade(5_100, 0), trade(5_105, 1), trade(1, 9)):
        dedupe.admit(tick, NOW, contiguous=True)
    assert [(hole.first, hole.last, hole.since) for hole in dedupe.seen.given_up] == [(5_101, 5_104, NOW)]


def test_resume_point_is_where_counting_begins_and_news_to_who_knows_an_earlier_id() -> None:
    """A venue's last trade before a subscription is history at first, and what was missed later."""
    assert verdicts(trade(10, 0, resume=True), trade(11, 1), trade(11, 1, resume=True), trade(15, 5, resume=True)) == (
        ["resume point", "new", "repeat", "new"]
    )


def test_other_id_space_is_skipped_until_the_first_was_silent() -> None:
    dedupe = TradeDedupe()
    assert dedupe.admit(trade(1, 0, id_space="trade"), NOW, contiguous=True) == "new"
    assert dedupe.admit(trade(900, 1, id_space="agg"), NOW + ID_SPACE_SILENCE_NS - 1, contiguous=True) == "other view"
    assert dedupe.admit(trade(901, 2, id_space="agg"), NOW + ID_SPACE_SILENCE_NS, contiguous=True) == "new"


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["trade", "agg"]), st.booleans()), max_size=60))
def test_next_id_is_judged_alike_on_the_short_way(ticks: list[tuple[int, str, bool]]) -> None:
    """`admit_next` is a shortcut: the same trades are new, and the same state remains, parked ids included."""
    long, short = TradeDedupe(), TradeDedupe()
    for number, id_space, parked in ticks:
        tick = trade(number, -1, id_space=id_space)
        verdict = "new" if short.admit_next(tick, NOW) else short.admit(tick, NOW, contiguous=True)
        assert verdict == long.admit(tick, NOW, contiguous=True)
        if parked:
            long.seen.park()
            short.seen.park()
    assert short == long


def test_trade_without_an_order_of_ids_is_new_once() -> None:
    """Its id is a text: nothing can be missing before it."""
    opaque = TradeTick("BTCUSDT", "a1", 1.0, 1.0, None, NOW)
    dedupe = TradeDedupe()
    assert [dedupe.admit(opaque, NOW, contiguous=False) for _ in range(2)] == ["new", "repeat"]
    assert not dedupe.fill(opaque)


def test_trade_of_another_view_fills_no_hole() -> None:
    """Its ids count something else."""
    dedupe = TradeDedupe()
    for number in (1, 3):
        dedupe.admit(trade(number, number), NOW, contiguous=True)
    assert not dedupe.fill(trade(2, 2, id_space="aggTrade"))
    assert dedupe.fill(trade(2, 2))


def test_hole_that_was_not_awaited_is_forgotten_without_a_word() -> None:
    """Ids from before the first one are nobody's loss."""
    ids = SeenIds()
    ids.add(5000, 5000, 1)
    for number in range(1, MAX_HOLES + 1):
        ids.add(5000 + 2 * number, 5000 + 2 * number, 1)
    assert (len(ids.missing), ids.given_up) == (MAX_HOLES, [])


def test_trade_of_another_view_is_nothing_to_continue_after() -> None:
    """What another source covered is counted in the id space in use."""
    dedupe = TradeDedupe()
    dedupe.admit(trade(1, 1), NOW, contiguous=True)
    dedupe.continue_after(trade(9, 9, id_space="aggTrade"))
    assert dedupe.seen.last == 1
    dedupe.continue_after(trade(9, 9))
    assert dedupe.seen.last == 9
