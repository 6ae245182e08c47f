"""The ids of a time range, found by probes, and the parts that are asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mdstream.backfill.plan import PAGES, Bisection, parts
from mdstream.venues.spans import Span, count, merged, within

NEWEST = 300
TRADES = st.lists(st.integers(0, NEWEST + 20), unique=True, max_size=60).flatmap(
    lambda ids: st.lists(st.integers(0, 50), min_size=len(ids), max_size=len(ids)).map(
        lambda times: dict(zip(sorted(ids), sorted(times), strict=True))
    )
)
"""What a venue has: times by id, both rising; ids are missing, and some are newer than the newest that is asked for."""


@given(TRADES, st.integers(0, 51), st.booleans())
def test_bisection_divides_the_trades_by_time(trades: dict[int, int], ts_ns: int, newest_first: bool) -> None:
    """In either order of a venue's pages, whatever it lacks, in few probes."""
    bisection, probes = Bisection(ts_ns, NEWEST, newest_first=newest_first), 0
    while (found := bisection.found) is None:
        probe = bisection.probe
        there = [n for n in trades if n <= probe][-1:] if newest_first else [n for n in trades if n >= probe][:1]
        bisection.answered((there[0], trades[there[0]]) if there else None)
        probes += 1
    assert probes <= NEWEST.bit_length() + 1
    assert found == min((n for n, ts in trades.items() if n <= NEWEST and ts >= ts_ns), default=NEWEST + 1)


SPANS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 90)), max_size=12).map(
    lambda pairs: merged(Span(first, first + length) for first, length in pairs)
)


@given(SPANS, st.integers(0, 500), st.integers(-1, 400), st.integers(1, 5), st.booleans())
def test_parts_are_the_wanted_ids_once(
    missing: list[Span], first: int, length: int, rows: int, newest_first: bool
) -> None:
    """In the order of the pages, none larger than PAGES of them."""
    wanted = Span(first, first + length)
    found = list(parts(missing, wanted, rows, newest_first=newest_first))
    assert merged(found) == merged(within(missing, wanted))
    assert count(found) == count(within(missing, wanted))
    assert all(count([part]) <= PAGES * rows for part in found)
    assert found == sorted(found, reverse=newest_first)
