"""The time spans in which a group's rows are searched for."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mdstream.sinks.spans import MAX_SPANS, MIN_GAP, Span, spans

TIMES = st.lists(st.integers(-(1 << 62), 1 << 62) | st.integers(0, 3 * MIN_GAP), min_size=1, max_size=60)


@given(TIMES)
def test_spans_hold_every_time_in_few_stretches_in_order(times: list[int]) -> None:
    """Each begins and ends at a time of the group, and none touches its neighbour."""
    found = spans(times)
    assert 1 <= len(found) <= MAX_SPANS
    assert all(any(first <= time <= last for first, last in found) for time in times)
    assert {end for span in found for end in span} <= set(times)
    assert all(after.first - before.last > MIN_GAP for before, after in pairwise(found))


@given(TIMES)
def test_spans_split_at_the_widest_gaps(times: list[int]) -> None:
    """No gap within a span is wider than a gap between spans, and gaps up to a minute do not split."""
    found = spans(times)
    ordered = sorted(set(times))
    firsts = {span.first for span in found[1:]}
    inside = [after - before for before, after in pairwise(ordered) if after not in firsts]
    between = [after.first - before.last for before, after in pairwise(found)]
    assert max(inside, default=0) <= (min(between) if len(found) == MAX_SPANS else MIN_GAP)


def test_spans_leave_a_late_row_by_itself() -> None:
    r"""
    rows    |                                         ||||||
    spans   |                                         └────┘
    """
    hour = 60 * MIN_GAP
    assert spans([5 * hour, 0, 5 * hour + 7, 5 * hour + 3]) == [Span(0, 0), Span(5 * hour, 5 * hour + 7)]
