"""Log time: the receive times of all ingestors made one clock that never runs back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.stream.clock import BEHIND_NS, LEAP_NS, advance
from mdstream.stream.state import LogState, SourceState

SECOND_NS = 1_000_000_000
T0 = 1_767_625_200 * SECOND_NS


def read(*records: tuple[str, float]) -> list[float]:
    """Log time after each record, in seconds since the first: source and receive time."""
    log, times = LogState(), []
    for name, at_s in records:
        advance(log, log.sources.setdefault(name, SourceState()), T0 + int(at_s * SECOND_NS))
        times.append((log.now_ns - T0) / SECOND_NS)
    return times


def test_log_time_is_the_highest_receive_time() -> None:
    """Small differences of the ingestors' clocks do not matter; what is late does not turn the clock back."""
    assert read(("a", 0), ("b", 0.5), ("a", 0.25), ("a", 1), ("b", 1.5)) == [0, 0.5, 0.5, 1, 1.5]


def test_time_in_which_nobody_wrote_does_not_count() -> None:
    """Five minutes without any record: it goes on where it was, for every source."""
    assert read(("a", 0), ("b", 0), ("a", 300), ("b", 300.5), ("a", 301)) == [0, 0, 0, 0, 1]


def test_clock_that_is_an_hour_off_stops_nobody() -> None:
    """One ingestor is an hour ahead, then none of the others' records would move time: its clock is moved instead."""
    assert read(("a", 0), ("b", 3600), ("a", 1), ("b", 3602), ("a", 2), ("b", 3603)) == [0, 0, 1, 2, 2, 3]


def test_clock_that_is_set_back_goes_on() -> None:
    assert read(("a", 100), ("a", 101), ("a", 0), ("a", 1), ("a", 2)) == [100, 101, 101, 102, 103]


def test_records_that_were_held_back_for_a_while_are_late_not_wrong() -> None:
    """A backlog that is written half a minute later leaves the clock where the others had it."""
    assert read(("a", 0), ("b", 0), *(("b", second) for second in range(1, 31)), ("a", 1), ("a", 30), ("a", 31))[
        -3:
    ] == ([30, 30, 31])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 4 * BEHIND_NS)), min_size=1))
def test_log_time_never_runs_back_nor_leaps(records: list[tuple[str, int]]) -> None:
    log, before = LogState(), None
    for name, at_ns in records:
        advance(log, log.sources.setdefault(name, SourceState()), T0 + at_ns)
        assert before is None or 0 <= log.now_ns - before <= LEAP_NS
        before = log.now_ns
