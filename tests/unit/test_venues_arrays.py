"""Arrays that concern several instruments: every element in one part, in order, under its own route."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.venues.arrays import split
from mdstream.venues.feed import OTHER, TRADE, Route

ELEMENTS = st.lists(
    st.fixed_dictionaries({"s": st.sampled_from(["A", "B", ""]), "n": st.integers() | st.text(max_size=3)}), max_size=12
)
SEPARATORS = st.sampled_from([(",", ":"), (" , ", ": "), (",\n", " :")])


def route(frame: bytes) -> Route:
    """By the first element: the instrument `s`; without one, no instrument's."""
    symbol = json.loads(frame)[0]["s"]
    return Route(symbol.encode(), TRADE) if symbol else Route(b"venue", OTHER)


@given(ELEMENTS, SEPARATORS)
def test_parts_hold_the_elements_of_the_frame_in_order(elements: list[object], separators: tuple[str, str]) -> None:
    """None is lost, added or moved, however the frame is laid out."""
    parts = split(json.dumps(elements, separators=separators).encode(), route)
    assert [element for part in parts for element in json.loads(part)] == elements


@given(ELEMENTS.filter(lambda elements: len(elements) > 1), SEPARATORS)
def test_a_part_is_of_one_route_and_as_long_as_can_be(elements: list[object], separators: tuple[str, str]) -> None:
    """Consecutive elements of an instrument stay together; one without an instrument, such as an answer, is alone."""
    parts = split(json.dumps(elements, separators=separators).encode(), route)
    for part in parts:
        assert len({route(json.dumps([element]).encode()) for element in json.loads(part)}) == 1
        assert route(part).kind is not OTHER or len(json.loads(part)) == 1
    assert all(route(one) != route(next_) or route(one).kind is OTHER for one, next_ in pairwise(parts))


@pytest.mark.parametrize(
    "frame", [b"", b"[]", b"{}", b"[1", b'[{"s":"A"}', b'[{"s":"\xff"}]', b"[" * 100_000, b'[{"s":"A"} ]', b'"x"']
)
def test_what_cannot_be_split_or_need_not_be_is_returned_whole(frame: bytes) -> None:
    """Byte for byte: the canonical stream will say what is wrong with it."""
    assert list(split(frame, route)) == [frame]


def test_a_frame_of_one_instrument_is_returned_as_it_came() -> None:
    """Also if it has several elements."""
    frame = b'[ {"s":"A", "n":1} ,{"s":"A"}]'
    assert list(split(frame, route)) == [frame]
    assert list(split(frame[:-1] + b',{"s":"B"}]', route)) == [b'[{"s":"A", "n":1},{"s":"A"}]', b'[{"s":"B"}]']
