"""Gaps: trade ids that a venue gave to somebody and that did not come. Only of sources whose ids are contiguous.

    hole ──waited for gap_after──> open ──all came──> closed
      └ filled: it was reordering    └──no more to be had──> lost

A hole is what deduplication sees (dedupe.py); it becomes a gap once it is too old to be reordering. Only stretches in
which the source was followed have holes: what was missed while another source stood in is no gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from mdstream.stream.dedupe import NOT_AWAITED, SeenIds
from mdstream.stream.state import Feed, OpenGap


@dataclass(frozen=True)
class GapLimits:
    """`after_ns`: how long reordering may take; `most`: trades of one gap that are asked for one by one."""

    after_ns: int = 1_000_000_000
    most: int = 100_000


class Change(NamedTuple):
    """What became of trades first..last; `since_ns` and `now_ns` in log time, `missing`: how many are not there."""

    state: Literal["open", "closed", "lost"]
    first: int
    last: int
    missing: int
    since_ns: int
    took_ns: int | None = None
    reason: str | None = None


def evaluate(feed: Feed, now_ns: int, limits: GapLimits) -> list[Change]:
    """What has changed since the last look, taken into the feed's state."""
    seen = feed.trades.seen
    if not (feed.gaps or seen.given_up or any(hole.since != NOT_AWAITED for hole in seen.missing)):
        return []
    return _given_up(feed, seen, now_ns) + _opened(feed, seen, now_ns, limits) + _ended(feed, seen, now_ns)


def lose(feed: Feed, first: int, last: int, reason: str, now_ns: int) -> list[Change]:
    """The repair found that first..last are not to be had any more; what it comes to."""
    seen = feed.trades.seen
    seen.give_up(first, last)
    return [change._replace(reason=reason) for change in _ended(feed, seen, now_ns)]


def _given_up(feed: Feed, seen: SeenIds, now_ns: int) -> list[Change]:
    """Holes for which there was no room, or whose ids mean something else now."""
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
                "not waited for any longer: there are too many holes, or the venue counts anew",
            )
        )
        feed.gaps = [gap for gap in feed.gaps if gap.last < hole.first or gap.first > hole.last]
    return changes


def _opened(feed: Feed, seen: SeenIds, now_ns: int, limits: GapLimits) -> list[Change]:
    changes: list[Change] = []
    for hole in seen.missing:
        if hole.since == NOT_AWAITED or hole.asked or now_ns - hole.since < limits.after_ns:
            continue
        missing = hole.last - hole.first + 1
        feed.gap_rate += 1
        if missing > limits.most:
            reason = f"{missing} trades are more than are asked for one by one ({limits.most})"
            changes.append(Change("lost", hole.first, hole.last, missing, hole.since, 0, reason))
            hole.since = NOT_AWAITED
            continue
        hole.asked = True
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
