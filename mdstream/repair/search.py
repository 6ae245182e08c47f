"""Which ids of a missing range to ask for next, and when to stop asking. Pure: answers in, questions out.

    to ask    the ids not asked for in this round
    absent    the ids asked for in this round that did not come

A round asks, page by page, for all missing ids. Absent ids are asked for again in the next round, since a
venue's REST interface may lag behind its websocket. After ROUNDS fruitless rounds in a row the rest counts as gone.

Invariants: an id is in one of the two lists until it is found; every answer shortens the first list, so a round ends
whatever a venue answers; fruitless rounds are counted, so the search ends.
"""

from __future__ import annotations

from collections.abc import Iterable

from mdstream.venues.spans import MAX_ID, MIN_ID, Span, count, merged, within, without

ROUNDS = 4


class Search:
    """The search for the ids of `wanted` in a history that is read upwards, or `newest_first`."""

    def __init__(self, wanted: Span, *, newest_first: bool) -> None:
        self._newest_first = newest_first
        self._to_ask = [wanted]
        self._absent: list[Span] = []
        self._fruitless = 0  # rounds in a row
        self._found_in_round = 0
        self.found = 0

    @property
    def missing(self) -> list[Span]:
        """The ids not found so far."""
        return merged([*self._to_ask, *self._absent])

    @property
    def round_is_over(self) -> bool:
        """Whether there is nothing to ask for before `end_round`."""
        return not self._to_ask

    @property
    def fruitless_rounds(self) -> int:
        """Rounds in a row that brought nothing; from ROUNDS on, missing ids count as gone."""
        return self._fruitless

    def next(self, max_ids: int) -> Span:
        """The ids to ask for now, at most `max_ids`. Only while the round is not over."""
        if self._newest_first:
            first, last = self._to_ask[-1]
            return Span(max(first, last - max_ids + 1), last)
        first, last = self._to_ask[0]
        return Span(first, min(last, first + max_ids - 1))

    def answered(self, requested: Span, came: Iterable[Span], *, at_end: bool) -> int:
        """Take in the answer to `requested`: the ids that `came`, even unasked ones. Returns how many were wanted.

        `at_end`: the venue returned fewer trades than requested, so there are none further on.
        """
        spans = merged(came)
        before = count(self._to_ask) + count(self._absent)
        covered = self._covered(requested, spans, at_end=at_end)
        self._absent = without(merged([*self._absent, *within(self._to_ask, covered)]), spans)
        self._to_ask = without(without(self._to_ask, [covered]), spans)
        new = before - count(self._to_ask) - count(self._absent)
        self.found += new
        self._found_in_round += new
        return new

    def _covered(self, requested: Span, came: list[Span], *, at_end: bool) -> Span:
        """The ids for which the answer shows whether the venue has them; never empty."""
        if self._newest_first:
            lowest = MIN_ID if at_end else came[0].first if came else requested.first
            return Span(lowest, requested.last) if lowest <= requested.last else requested
        highest = MAX_ID if at_end else came[-1].last if came else requested.last
        return Span(requested.first, highest) if highest >= requested.first else requested

    def end_round(self) -> bool:
        """Close the finished round. Returns whether there is a next one; if not, missing ids are gone."""
        self._fruitless = 0 if self._found_in_round else self._fruitless + 1
        self._found_in_round = 0
        if not self._absent or self._fruitless >= ROUNDS:
            return False
        self._to_ask, self._absent = self._absent, []
        return True
