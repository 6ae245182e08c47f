"""mdstream/venues/spans.py: sets of ids as spans say the same as sets of ids."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mdstream.venues.spans import Span, add, count, has, merged, within, without

ends = st.integers(0, 60)
spans = st.builds(lambda a, b: Span(min(a, b), max(a, b)), ends, ends)
several = st.lists(spans, max_size=12)


def ids(spans: list[Span]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


def is_tidy(spans: list[Span]) -> bool:
    """Whether they are sorted, and apart from one another."""
    return all(first <= last for first, last in spans) and all(a.last + 1 < b.first for a, b in pairwise(spans))


@given(several)
def test_merged_holds_the_same_ids_in_the_fewest_spans(given_: list[Span]) -> None:
    """Overlapping and touching spans become one."""
    assert ids(merged(given_)) == ids(given_)
    assert is_tidy(merged(given_))


@given(several)
def test_count_is_the_number_of_ids(given_: list[Span]) -> None:
    """Of spans that are apart."""
    assert count(merged(given_)) == len(ids(given_))


@given(several, several)
def test_without_takes_ids_away(given_: list[Span], taken: list[Span]) -> None:
    """What is left is in order and apart again."""
    left = without(merged(given_), merged(taken))
    assert ids(left) == ids(given_) - ids(taken)
    assert is_tidy(left)


@given(several, spans)
def test_within_cuts_to_the_bounds(given_: list[Span], bounds: Span) -> None:
    """Both of which belong to it."""
    cut = within(merged(given_), bounds)
    assert ids(cut) == ids(given_) & ids([bounds])
    assert is_tidy(cut)


@given(several, spans)
def test_ids_are_added_and_found_one_span_at_a_time(given_: list[Span], more: Span) -> None:
    """The same as with all of them at once."""
    found = merged(given_)
    for span in without([more], found):
        add(found, span)
    assert found == merged([*given_, more])
    assert {number for number in range(-1, 62) if has(found, number)} == ids(found)


def test_span_is_written_as_people_read_it() -> None:
    """One id, or from .. to."""
    assert (str(Span(7, 7)), str(Span(7, 9))) == ("7", "7..9")
