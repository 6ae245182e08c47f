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

from mdstream.stream.ids import MOST_HOLES, MOST_OPAQUE, SeenIds
from mdstream.ticks import NO_ID

RANGES = st.tuples(st.integers(0, 120), st.integers(0, 6)).map(lambda pair: (pair[0], pair[0] + pair[1]))


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
    """Against the set of all ids: new where any of first..last is not in it. What came before the first is a repeat.

    The first range opens the space: lower ids belong to the time before us.
    """
    ids, seen = SeenIds(), set[int]()
    lowest = ranges[0][0]
    for first, last in ranges:
        fresh = {identity for identity in range(first, last + 1) if identity >= lowest} - seen
        assert ids.add(first, last) is bool(fresh)
        seen |= fresh
        assert ids.last == max(seen)
        assert ids.missing == missing_of(seen)


@given(st.lists(RANGES, min_size=1, max_size=40))
def test_adding_again_is_never_new(ranges: list[tuple[int, int]]) -> None:
    """A replay of the same ids, from the first, finds nothing new."""
    ids = SeenIds()
    for first, last in ranges:
        ids.add(first, last)
    before = msgspec.structs.replace(ids)
    assert not any(ids.add(first, last) for first, last in ranges)
    assert ids == before


@given(st.lists(RANGES, max_size=40), st.lists(st.text(max_size=8), max_size=20))
def test_state_round_trips_through_a_checkpoint(ranges: list[tuple[int, int]], opaque: list[str]) -> None:
    """The fields are the whole state: what is read back answers alike."""
    ids = SeenIds()
    for first, last in ranges:
        ids.add(first, last)
    for identity in opaque:
        ids.add_opaque(identity)
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(ids), type=SeenIds)
    assert again == ids
    assert list(again.recent) == list(ids.recent)
    for first, last in ranges:
        assert again.add(first, last + 1) is ids.add(first, last + 1)


def test_fresh_states_share_nothing() -> None:
    """Holes of one instrument never show in another's."""
    one, other = SeenIds(), SeenIds()
    one.add(1, 1)
    one.add(5, 5)
    one.add_opaque("a")
    assert (other.last, other.missing, other.recent) == (NO_ID, [], {})


@pytest.mark.parametrize("first", [0, 1, 5_680_123_456, 2**63 - 10])
def test_first_ids_are_new_whatever_they_are(first: int) -> None:
    """A feed may begin anywhere; what is before its first id is not a hole."""
    ids = SeenIds()
    assert ids.add(first, first + 2)
    assert ids.missing == []


def test_range_that_bridges_a_hole_and_the_end_is_one_new_event() -> None:
    """seen 1..3 7..9, then 5..11: new, and only 4 is missing."""
    ids = SeenIds()
    ids.add(1, 3)
    ids.add(7, 9)
    assert ids.add(5, 11)
    assert (ids.last, ids.missing) == (11, [(4, 4)])


def test_holes_are_bounded_and_the_oldest_given_up_first() -> None:
    """Beyond MOST_HOLES the oldest is forgotten: a late id in it counts as a repeat, one in a younger hole as new."""
    ids = SeenIds()
    for identity in range(0, 4 * MOST_HOLES, 2):
        ids.add(identity, identity)
    assert len(ids.missing) == MOST_HOLES
    assert not ids.add(1, 1)
    assert ids.add(4 * MOST_HOLES - 3, 4 * MOST_HOLES - 3)


def test_holes_stay_bounded_when_one_is_split() -> None:
    """An id in the middle of a hole makes two of it, at the limit too."""
    ids = SeenIds()
    for identity in range(0, 10 * (MOST_HOLES + 1), 10):
        ids.add(identity, identity)
    assert len(ids.missing) == MOST_HOLES
    assert ids.add(10 * MOST_HOLES - 5, 10 * MOST_HOLES - 5)
    assert len(ids.missing) == MOST_HOLES
    assert ids.add(10 * MOST_HOLES - 9, 10 * MOST_HOLES - 9)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=40))
def test_opaque_id_is_new_once(identities: list[str]) -> None:
    """Inside the window each id is new the first time and a repeat ever after."""
    ids, seen = SeenIds(), set[str]()
    for identity in identities:
        assert ids.add_opaque(identity) is (identity not in seen)
        seen.add(identity)


def test_opaque_ids_are_bounded_and_the_oldest_forgotten_first() -> None:
    """The window holds MOST_OPAQUE ids."""
    ids = SeenIds()
    for number in range(MOST_OPAQUE + 1):
        assert ids.add_opaque(str(number))
    assert len(ids.recent) == MOST_OPAQUE
    assert not ids.add_opaque("1")
    assert ids.add_opaque("0")
