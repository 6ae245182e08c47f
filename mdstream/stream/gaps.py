"""Gaps: trade ids the venue assigned that never arrived. Only for sources whose ids are contiguous.

    hole ──waited for gap_after──> open ──all came──> closed
      └ filled: it was reordering    └──not available──> lost

Deduplication detects holes (dedupe.py); a hole becomes a gap once it is too old to be reordering. Holes exist only
where the source was followed: trades missed while another source was followed are no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mdstream.stream.dedupe import NOT_AWAITED, SeenIds
from mdstream.stream.state import Feed, OpenGap
from mdstream.venues.spans import Span


@dataclass(frozen=True)
class GapLimits:
    """`after_ns`: how long reordering may take; `max_trades`: the largest gap that is repaired."""

    after_ns: int = 1_000_000_000
    max_trades: int = 100_000


class Change(NamedTuple):
    """The new state of trades first..last. `since_ns`: log time; `missing`: how many are not there."""

    state: Literal["open", "closed", "lost"]
    first: int
    last: int
    missing: int
    since_ns: int
    took_ns: int | None = None
    reason: str | None = None


def waits(feed: Feed) -> bool:
    """Whether any trade is waited for, or was given up since the last evaluation: else there is nothing to evaluate."""
    seen = feed.trades.seen
    if feed.gaps or seen.given_up:
        return True
    for hole in seen.missing:  # noqa: SIM110  a generator costs more than the few holes
        if hole.since != NOT_AWAITED:
            return True
    return False


def evaluate(feed: Feed, now_ns: int, limits: GapLimits) -> list[Change]:
    """The changes since the last evaluation, recorded in the feed's state."""
    seen = feed.trades.seen
    return _given_up(feed, seen, now_ns) + _opened(feed, seen, now_ns, limits) + _ended(feed, seen, now_ns)


def lose(feed: Feed, first: int, last: int, reason: str, now_ns: int) -> list[Change]:
    """Record that the repair found first..last no longer available; the resulting changes."""
    seen = feed.trades.seen
    seen.give_up(first, last)
    seen.close(Span(first, last))
    return [change._replace(reason=reason) for change in _ended(feed, seen, now_ns)]


def _given_up(feed: Feed, seen: SeenIds, now_ns: int) -> list[Change]:
    """Holes given up for lack of room, or because their ids now mean other trades."""
    holes, seen.given_up = seen.given_up, []
    changes: list[Change] = []
    for hole in holes:
        changes.append(
            Change(
                "lost",
                hole.first,
                hole.last,
                hole.last - hole.first + 1,
                hole.since,
                now_ns - hole.since,
                "no longer waited for: there are too many holes, or the venue restarted its ids",
            )
        )
        feed.gaps = [gap for gap in feed.gaps if gap.last < hole.first or gap.first > hole.last]
    return changes


def _opened(feed: Feed, seen: SeenIds, now_ns: int, limits: GapLimits) -> list[Change]:
    changes: list[Change] = []
    for hole in seen.missing:
        if hole.since == NOT_AWAITED or hole.reported or now_ns - hole.since < limits.after_ns:
            continue
        missing = hole.last - hole.first + 1
        feed.gap_rate += 1
        if missing > limits.max_trades:
            reason = f"{missing} trades are more than are asked for one by one ({limits.max_trades})"
            changes.append(Change("lost", hole.first, hole.last, missing, hole.since, 0, reason))
            hole.since = NOT_AWAITED
            continue
        hole.reported = True
        feed.gaps.append(OpenGap(hole.first, hole.last, now_ns))
        changes.append(Change("open", hole.first, hole.last, missing, hole.since))
    return changes


def _ended(feed: Feed, seen: SeenIds, now_ns: int) -> list[Change]:
    changes: list[Change] = []
    still: list[OpenGap] = []
    for gap in feed.gaps:
        awaited, lost = seen.missing_within(gap.first, gap.last)
        if awaited:
            still.append(gap)
            continue
        state: Literal["closed", "lost"] = "lost" if lost else "closed"
        changes.append(Change(state, gap.first, gap.last, lost, gap.opened_ns, now_ns - gap.opened_ns))
    feed.gaps = still
    return changes
