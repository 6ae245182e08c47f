"""What became of a backfill of one symbol, of one interval or of its trades."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mdstream.backfill.windows import Ranges, Times
from mdstream.venues.spans import Span
from mdstream.venues.timed import TRADES

MAX_LISTED = 20


@dataclass
class Result:
    """`asked`: how many were missing, 0 where that is not known before; `found`: how many came.

    `lost`: what the venue does not have, and why; `empty`: intervals without a bar; `missing`: what the venue has, but
    the stream did not take; `later`: what comes later, and when; `refused`: why it was not done, or not to the end.
    """

    symbol: str
    interval: str = TRADES
    asked: int = 0
    found: int = 0
    lost: list[tuple[Span | Times, str]] = field(default_factory=list)
    empty: Ranges = field(default_factory=lambda: Ranges(MAX_LISTED))
    missing: list[Span] | list[Times] = field(default_factory=list)
    later: str = ""
    refused: str = ""

    @property
    def is_complete(self) -> bool:
        """Whether the stream has all of it, but for what the venue does not have."""
        return not (self.missing or self.refused)

    @property
    def is_bars(self) -> bool:
        """Whether it is of bars."""
        return self.interval != TRADES


Show = Callable[[Result, int, float], None]
"""Called with how many are done, and which fraction."""
