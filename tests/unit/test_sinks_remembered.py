"""A number with two contents is noticed for as long as the first is remembered, and memory is bounded."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.sinks.numbers import Conflicts
from mdstream.sinks.remembered import Numbered, Remembered

EVENTS = st.tuples(
    st.sampled_from(["trade", "quote"]), st.sampled_from(["A", "B"]), st.integers(0, 5), st.sampled_from([b"x", b"y"])
)


def conflicts(*notes: Iterable[Numbered], most: int = 100) -> int:
    counted = Conflicts("test", now_s=lambda: 0.0)
    remembered = Remembered(counted, most=most)
    for note in notes:
        remembered.note(note)
    return counted.total


@given(st.lists(st.lists(EVENTS, max_size=8), max_size=8))
def test_each_event_that_is_not_what_its_number_first_was_is_counted(groups: list[list[Numbered]]) -> None:
    """In whatever groups they come; of another kind or symbol a number is another one."""
    first: dict[object, bytes] = {}
    due = 0
    for kind, symbol, number, value in (event for group in groups for event in group):
        due += first.setdefault((kind, symbol, number), value) != value
    assert conflicts(*groups) == due


def test_what_is_remembered_is_bounded() -> None:
    """The last events, at least as many as `most`; beyond twice as many nothing is known."""
    group = [("trade", "A", number, b"x") for number in range(10)]
    later = [("trade", "B", number, b"x") for number in range(10)]
    again = [("trade", "A", 9, b"y")]
    assert conflicts(group, later, again, most=20) == 1
    assert conflicts(group, later, again, most=11) == 1
    assert conflicts(group, later, again, most=10) == 0


def test_one_line_a_minute_and_instrument(caplog: pytest.LogCaptureFixture) -> None:
    """However many there are; the count has all."""
    now_s = [0.0]
    counted = Conflicts("test", now_s=lambda: now_s[0])
    remembered = Remembered(counted)
    remembered.note(("trade", symbol, 1, b"x") for symbol in ("A", "B"))
    for second in range(0, 120, 10):
        now_s[0] = float(second)
        remembered.note(("trade", symbol, 1, b"y") for symbol in ("A", "B"))
    assert counted.total == 24
    assert len(caplog.records) == 4
