"""Which times a backfill by time asks for: sets of whole seconds, compared with sets of numbers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.backfill.windows import (
    SETTLED_NS,
    Ranges,
    Times,
    asked,
    count,
    cut,
    left,
    oldest_ns,
    short,
    unit_ns,
    windows,
    without,
)
from mdstream.simulator.market import SECOND_NS
from mdstream.venues.binance.timed import BinanceTimed
from mdstream.venues.ib.timed import IbTimed
from mdstream.venues.okx.timed import OkxTimed
from mdstream.venues.timed import TRADES, Timed

HOUR_NS, NOW_NS = 3_600 * SECOND_NS, 1_767_625_200_123_456_789
LAST_NS = 2**63 - 1
SECONDS = st.integers(0, 200)


def seconds(spans: list[Times]) -> list[int]:
    return [second for begin, end in spans for second in range(begin // SECOND_NS, end // SECOND_NS)]


@st.composite
def spans(draw: st.DrawFn) -> list[Times]:
    """Disjoint times of whole seconds, in order."""
    bounds = draw(st.lists(SECONDS, unique=True, max_size=20).map(sorted))
    return [Times(a * SECOND_NS, b * SECOND_NS) for a, b in zip(bounds[::2], bounds[1::2], strict=False)]


@given(st.integers(0, 2 * NOW_NS), st.integers(0, 2 * NOW_NS), st.sampled_from(["1s", "5m", "1d", TRADES]))
def test_asked_are_whole_intervals_that_are_over(begin: int, end: int, interval: str) -> None:
    """All of them and no other; an interval that began before is not part of the time."""
    each, times = unit_ns(interval), asked(interval, Times(begin, end), NOW_NS)
    over_ns = NOW_NS - SETTLED_NS
    assert times.begin % each == times.end % each == 0
    assert begin <= times.begin < begin + each
    if times.begin < times.end:
        assert times.end <= min(end, over_ns) < times.end + each
    else:
        assert times.begin == times.end
        assert min(end, over_ns) < times.begin + each


def test_nothing_is_asked_of_the_time_before_1970() -> None:
    """The stream takes no such times."""
    assert asked("1m", Times(-90 * SECOND_NS, 60 * SECOND_NS), NOW_NS) == Times(0, 60 * SECOND_NS)
    assert asked(TRADES, Times(-2, -1), NOW_NS) == Times(0, 0)


@given(spans(), st.integers(1, 7))
def test_windows_are_the_missing_times_in_parts(missing: list[Times], rows: int) -> None:
    """Oldest first, none longer than an answer; times of trades are one window each."""
    found = list(windows(missing, "1s", rows))
    assert seconds(found) == seconds(missing)
    assert all(begin < end <= begin + rows * SECOND_NS for begin, end in found)
    assert list(windows(missing, TRADES, rows)) == missing
    assert count(found, "1s") == len(seconds(missing))


@given(spans(), st.integers(0, 200 * SECOND_NS))
def test_cut_divides_the_missing_times(missing: list[Times], at_ns: int) -> None:
    """At the first whole interval that the venue has."""
    older, rest = cut(missing, "1s", at_ns)
    assert seconds(older) + seconds(rest) == seconds(missing)
    assert all(second * SECOND_NS < at_ns for second in seconds(older))
    assert all(second * SECOND_NS >= at_ns for second in seconds(rest))


@given(st.sets(SECONDS), SECONDS, SECONDS)
def test_without_is_what_a_window_has_no_bar_of(present: set[int], low: int, high: int) -> None:
    """In the fewest ranges; bars beside the window do not count."""
    window = Times(min(low, high) * SECOND_NS, max(low, high) * SECOND_NS)
    found = list(without(window, [second * SECOND_NS for second in present], "1s"))
    assert seconds(found) == sorted(set(range(min(low, high), max(low, high))) - present)
    assert all(one.end < other.begin for one, other in pairwise(found))


@given(spans(), st.integers(0, 5), st.integers(1, 4))
def test_ranges_join_and_are_bounded(times: list[Times], most: int, rows: int) -> None:
    """The first ones are kept whole, whatever parts they came in; all are counted."""
    ranges = Ranges(most)
    for part in windows(times, "1s", rows):
        ranges.add(part)
    assert (ranges.first, ranges.total) == (times[:most], len(times))


@given(spans(), spans())
def test_left_is_what_nobody_excuses(missing: list[Times], excused: list[Times]) -> None:
    """As sets of seconds."""
    excuses = set(seconds(excused))
    assert seconds(left(missing, excused)) == [second for second in seconds(missing) if second not in excuses]


class Newest(BinanceTimed):
    """The newest bars of each interval."""

    reach_ns = 0


class Some(BinanceTimed):
    """So far back, of two intervals."""

    reach_ns = HOUR_NS
    near = ("1s", "1m")


@pytest.mark.parametrize(
    ("venue", "interval", "oldest"),
    [
        (BinanceTimed, "1s", 0),
        (Newest, "1m", NOW_NS - 1_000 * 60 * SECOND_NS),
        (Newest, TRADES, 0),
        (Some, "1s", NOW_NS - HOUR_NS),
        (Some, "1m", NOW_NS - HOUR_NS),
        (Some, "3m", 0),
        (IbTimed, "30s", NOW_NS - 180 * 24 * HOUR_NS),
        (IbTimed, "1m", 0),
        (OkxTimed, "1s", NOW_NS - 90 * 24 * HOUR_NS),
        (OkxTimed, "1m", 0),
    ],
)
def test_bars_go_back_as_far_as_the_venue_says(venue: type[Timed], interval: str, oldest: int) -> None:
    """Of all intervals, of the short ones, or as many as an answer has."""
    assert oldest_ns(venue(), interval, NOW_NS) == oldest


def test_times_are_shown_without_zeros_at_their_end() -> None:
    """As a user would give them."""
    assert str(Times(1_767_625_200 * SECOND_NS, NOW_NS)) == "2026-01-05T15:00:00Z to 2026-01-05T15:00:00.123456789Z"
    assert short(1_767_625_200 * SECOND_NS + 500_000_000) == "2026-01-05T15:00:00.5Z"
