"""A number with two contents is noticed for as long as the first is remembered, and memory is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.sinks.numbers import Conflicts
from mdstream.sinks.remembered import MAX_INSTRUMENTS, REMEMBERED, Remembered

Event = tuple[str, int, bytes]


def event(number: int, what: str = "x", name: str = "trade.A") -> Event:
    return name, number, b'{"seq":%d,"what":"%s"}' % (number, what.encode())


def conflicts(*groups: list[Event]) -> int:
    counted = Conflicts("test", now_s=lambda: 0.0)
    remembered = Remembered(counted)
    for group in groups:
        remembered.note(group)
    return counted.total


EVENTS = st.builds(
    event, st.integers(0, 3) | st.integers(0, 2 * REMEMBERED), st.sampled_from("xy"), st.sampled_from(["A", "B"])
)


@given(st.lists(st.lists(EVENTS, max_size=12), max_size=8))
def test_each_event_that_is_not_what_its_number_first_was_is_counted(groups: list[list[Event]]) -> None:
    """However they are grouped, as long as no much higher number has come. An event that first comes below the highest
    number is not remembered."""
    first: dict[tuple[str, int], bytes] = {}
    highest = {"A": -1, "B": -1}
    due = 0
    for name, number, value in (one for group in groups for one in group):
        if number > highest[name]:
            highest[name] = number
            first = {key: old for key, old in first.items() if key[0] != name or (key[1] - number) % REMEMBERED}
            first[name, number] = value
        else:
            due += first.get((name, number), value) != value
    assert conflicts(*groups) == due


def test_a_repeat_and_another_instruments_number_are_no_conflict() -> None:
    group = [event(1), event(2), event(1), event(2)]
    assert conflicts(group, group, [event(1, "y", "trade.B"), event(2, "y", "quote.A")]) == 0
    assert conflicts(group, [event(2, "y")]) == 1


def test_instruments_are_bounded() -> None:
    """Names come from the wire."""
    many = [event(1, name=str(n)) for n in range(MAX_INSTRUMENTS - 1)]
    assert conflicts([event(1)], many, [event(1, "y")]) == 1
    assert conflicts([event(1)], many, [event(1, name="one more")], [event(1, "y")]) == 0


def test_one_line_a_minute_and_instrument(caplog: pytest.LogCaptureFixture) -> None:
    """However many there are; the count has all."""
    now_s = [0.0]
    counted = Conflicts("test", now_s=lambda: now_s[0])
    remembered = Remembered(counted)
    remembered.note([event(1), event(1, name="trade.B")])
    for second in range(0, 120, 10):
        now_s[0] = float(second)
        remembered.note([event(1, "y"), event(1, "y", "trade.B")])
    assert counted.total == 24
    assert len(caplog.records) == 4
