"""Numbers that a sink receives again: when they are suspicious, and how conflicts are reported."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.sinks.numbers import QUIET_S, Conflicts, Numbers

SYMBOLS = st.sampled_from(["BTCUSDT", "ETHUSDT"])


@given(st.lists(st.lists(st.tuples(SYMBOLS, st.integers(0, 9)), max_size=6), max_size=6))
def test_numbers_rise_where_each_is_above_all_of_its_instrument_before(groups: list[list[tuple[str, int]]]) -> None:
    """Whatever group they came in, and whether those before them rose or not."""
    numbers, seen = Numbers(), list[tuple[str, int]]()
    for group in groups:
        rising = True
        for symbol, number in group:
            rising &= all(number > other for name, other in seen if name == symbol)
            seen.append((symbol, number))
        assert numbers.rise("trades", group) is rising


def test_numbers_of_another_kind_count_by_themselves() -> None:
    """Trades and quotes of a symbol are numbered separately."""
    numbers = Numbers()
    assert numbers.rise("trades", [("BTCUSDT", 5)])
    assert numbers.rise("quotes", [("BTCUSDT", 5)])
    assert not numbers.rise("quotes", [("BTCUSDT", 5)])


def test_conflicts_are_counted_and_logged_once_a_minute_for_each_instrument(caplog: pytest.LogCaptureFixture) -> None:
    """One line with the lowest number; the count goes on meanwhile."""
    now_s = [0.0]
    conflicts = Conflicts("sqlite", now_s=lambda: now_s[0])
    with caplog.at_level(logging.ERROR):
        conflicts.found([("BTCUSDT", 8), ("BTCUSDT", 7), ("ETHUSDT", 3)])
        now_s[0] = QUIET_S - 1
        conflicts.found([("BTCUSDT", 9)])
        conflicts.found([])
        now_s[0] = QUIET_S
        conflicts.found([("BTCUSDT", 10)])
    assert conflicts.total == 5
    assert [message.partition(" events")[0] for message in caplog.messages] == [
        "sqlite: BTCUSDT: 2",
        "sqlite: ETHUSDT: 1",
        "sqlite: BTCUSDT: 1",
    ]
    assert "a number (seq) that is stored with another content, the first is 7: " in caplog.messages[0]
    assert {record.levelname for record in caplog.records} == {"ERROR"}
