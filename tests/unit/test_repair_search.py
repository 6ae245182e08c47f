"""mdstream/repair/search.py: every trade that the venue has is found, and the search ends whatever it answers.

wanted     10 11 12 13 14 15 16        asked for upwards, three at a time
the venue  10 11    13       16 17
page 1     10..12 -> 10 11 13          12 is absent, and 13 came as well
page 2     14..16 -> 16 17, the end    14 15 are absent
round 2    12, 14..15 again
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.repair.search import ROUNDS, Search
from mdstream.venues.spans import MAX_ID, MIN_ID, Span, count, merged

MOST = 5


def ids(spans: list[Span]) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


def answer(existing: set[int], requested: Span, rows: int, *, newest_first: bool) -> list[int]:
    """What a venue with these trades gives: `rows` of them from an end of `requested`, also beyond the other end."""
    if newest_first:
        return sorted((number for number in existing if number <= requested.last), reverse=True)[:rows]
    return sorted(number for number in existing if number >= requested.first)[:rows]


def ask_once(search: Search, existing: set[int], *, newest_first: bool) -> int:
    requested = search.next(MOST)
    rows = count([requested])
    came = answer(existing, requested, rows, newest_first=newest_first)
    return search.answered(requested, [Span(number, number) for number in came], at_end=len(came) < rows)


def search_through(search: Search, existing: set[int], *, newest_first: bool, most_pages: int) -> int:
    """Ask until there is nothing to ask for; how many pages that took."""
    pages = 0
    while True:
        while not search.round_is_over:
            ask_once(search, existing, newest_first=newest_first)
            pages += 1
            assert pages <= most_pages
        if not search.end_round():
            return pages


wanted = st.builds(lambda first, more: Span(first, first + more), st.integers(0, 40), st.integers(0, 40))
histories = st.sets(st.integers(0, 100))


@pytest.mark.parametrize("newest_first", [False, True])
@given(wanted=wanted, existing=histories)
def test_search_finds_all_that_the_venue_has_and_nothing_else(
    newest_first: bool, wanted: Span, existing: set[int]
) -> None:
    """Whatever holes its history has: found and missing are the two halves of what was wanted."""
    search = Search(wanted, newest_first=newest_first)
    search_through(search, existing, newest_first=newest_first, most_pages=ROUNDS * 100)
    assert ids(search.missing) == ids([wanted]) - existing
    assert search.found == len(ids([wanted]) & existing)


@pytest.mark.parametrize("newest_first", [False, True])
@given(wanted=wanted)
def test_search_takes_one_page_for_every_so_many_trades_where_all_are_there(newest_first: bool, wanted: Span) -> None:
    """A whole history is asked for once."""
    search = Search(wanted, newest_first=newest_first)
    pages = search_through(search, set(range(101)), newest_first=newest_first, most_pages=20)
    assert pages == -(-count([wanted]) // MOST)
    assert search.missing == []


@pytest.mark.parametrize("newest_first", [False, True])
@given(wanted=wanted, existing=histories, late=histories)
def test_search_finds_what_appears_before_its_last_round(
    newest_first: bool, wanted: Span, existing: set[int], late: set[int]
) -> None:
    """A REST interface that lags behind its websocket loses nothing."""
    search = Search(wanted, newest_first=newest_first)
    while not search.round_is_over:
        ask_once(search, existing, newest_first=newest_first)
    if search.end_round():
        search_through(search, existing | late, newest_first=newest_first, most_pages=ROUNDS * 100)
    assert ids(search.missing) == ids([wanted]) - existing - late


@pytest.mark.parametrize("newest_first", [False, True])
@given(data=st.data(), wanted=wanted)
def test_search_ends_whatever_the_venue_answers(newest_first: bool, data: st.DataObject, wanted: Span) -> None:
    """Each answer settles at least one id, and each fruitless round is counted: no answer makes it loop."""
    search = Search(wanted, newest_first=newest_first)
    numbers = st.integers(MIN_ID, 120) | st.just(MAX_ID)
    answers = st.lists(st.builds(lambda a, b: Span(min(a, b), max(a, b)), numbers, numbers), max_size=4)
    size = count([wanted])
    for _ in range((size + 1) * ROUNDS * (size + 1)):
        requested = search.next(MOST)
        assert ids([requested]) <= ids([wanted])
        before = search.missing
        came = data.draw(answers)
        new = search.answered(requested, came, at_end=data.draw(st.booleans()))
        assert new == count(before) - count(search.missing)
        assert not (ids(search.missing) & {number for number in ids([wanted]) for s in came if s[0] <= number <= s[1]})
        if search.round_is_over and not search.end_round():
            return
    raise AssertionError("it went on")


def test_search_gives_up_after_its_rounds_in_a_row_without_a_find() -> None:
    """A find in between restarts the count: the venue is catching up."""
    search = Search(Span(1, 2), newest_first=False)
    history: set[int] = set()
    for fruitless in range(1, ROUNDS):
        ask_once(search, history, newest_first=False)
        assert search.end_round()
        assert search.fruitless_rounds == fruitless
    history.add(1)
    while not search.round_is_over:
        ask_once(search, history, newest_first=False)
    assert search.end_round()
    assert search.fruitless_rounds == 0
    for _ in range(ROUNDS - 1):
        ask_once(search, history, newest_first=False)
        assert search.end_round()
    ask_once(search, history, newest_first=False)
    assert not search.end_round()
    assert search.missing == [Span(2, 2)]


@pytest.mark.parametrize("newest_first", [False, True])
def test_search_for_a_billion_nonexistent_ids_takes_a_few_pages(newest_first: bool) -> None:
    """An answer with fewer trades than asked for ends the history: a venue that restarts its ids costs nothing."""
    search = Search(Span(1_000, 1_000_000_000), newest_first=newest_first)
    pages = search_through(search, {5}, newest_first=newest_first, most_pages=2 * ROUNDS)
    assert pages == ROUNDS
    assert search.missing == [Span(1_000, 1_000_000_000)]


def test_search_distinguishes_a_hole_inside_a_page_from_what_lies_beyond_it() -> None:
    """The example at the top of this file."""
    search = Search(Span(10, 16), newest_first=False)
    requested = search.next(3)
    assert requested == Span(10, 12)
    assert search.answered(requested, merged([Span(10, 11), Span(13, 13)]), at_end=False) == 3
    requested = search.next(3)
    assert requested == Span(14, 16)
    assert search.answered(requested, [Span(16, 17)], at_end=True) == 1
    assert search.round_is_over
    assert search.end_round()
    assert search.missing == [Span(12, 12), Span(14, 15)]
