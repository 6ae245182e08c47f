"""The time ranges of a group's rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest
from itertools import pairwise
from typing import NamedTuple

MAX_SPANS = 16
"""One query for each; more would cost more than reading what lies between."""
MIN_GAP = 60_000_000
"""A shorter gap does not split a span: a minute, in microseconds."""


class Span(NamedTuple):
    """From `first` to `last`, both included."""

    first: int
    last: int


def spans(times: Iterable[int]) -> list[Span]:
    """The spans, in order, that hold all of the times (microseconds; at least one), split at the widest gaps: a late
    trade must not make its group's query read everything since."""
    ordered = sorted(set(times))
    wide = [(after - before, before, after) for before, after in pairwise(ordered) if after - before > MIN_GAP]
    cuts = sorted((before, after) for _, before, after in nlargest(MAX_SPANS - 1, wide))
    firsts = [ordered[0], *(after for _, after in cuts)]
    lasts = [*(before for before, _ in cuts), ordered[-1]]
    return list(map(Span, firsts, lasts))
