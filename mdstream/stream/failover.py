"""Which source an instrument follows: the faults of each, and when to switch. Pure rules over the log's state.

    good   nothing is wrong
    poor   late, faulty or with gaps: left for a good one that has been good for a while
    dead   disconnected, silent, or its ingestor gone: left at once for any that is not dead

           fault, and another is better: at once                       B before A in order of preference
      A ────────────────────────────────────> B
      A <──────────────────────────────────── B
           A good for recover_after, doubled with each recent failure; at the very beginning at once

The other sources distinguish a silent feed from a quiet market: a feed is silent when others send and it does not, for
much longer than its usual interval. A market in which no source sends is quiet, and nothing changes.

Silence counts from the first data that another source has and this one lacks, not from its own last data: after a quiet
hour the first source to send is no better than the next. It counts within a trading session. After a night or a bell
every feed begins anew at `counts_from_ns`: silence, expected interval, and the time for which it has been good. That is
0 where a market does not close.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from mdstream.stream.state import Channel, Feed, SourceState

SECOND_NS = 1_000_000_000
SILENT_AFTER = 10
"""Silence counts after so many times the feed's expected interval."""
MIN_SAMPLES = 8
"""Evaluations with new data needed before the expected interval is known."""
UNKNOWN_INTERVAL_NS = 30 * SECOND_NS
MAX_SAMPLES = 64
"""Evaluations over which the expected interval is averaged."""
MAX_DOUBLINGS = 4
FORGET_AFTER = 10
"""A source that was good for so many times recover_after has its failures forgotten."""


@dataclass(frozen=True)
class Limits:
    """When a feed counts as silent, late or faulty, and when it is trusted again. Faults and gaps are per minute."""

    stale_after_ns: int = 3 * SECOND_NS
    recover_after_ns: int = 30 * SECOND_NS
    max_latency_ns: int = 2 * SECOND_NS
    max_faults: float = 30
    max_gaps: float = 10

    @property
    def buffer_ns(self) -> int:
        """How much of a standby is kept: the time until a source is left, and how late it may have been."""
        return 2 * self.stale_after_ns + self.max_latency_ns + SECOND_NS

    def buffer_from_ns(self, followed: Feed, now_ns: int) -> int:
        """Log time from which standbys are kept: back to the last trade of the followed feed, if it is silent.

        By UNKNOWN_INTERVAL_NS at most: a restart reads the raw log from there.
        """
        silent_ns = min(now_ns - followed.trade.seen_ns, UNKNOWN_INTERVAL_NS)
        return now_ns - silent_ns - self.buffer_ns


class Health(IntEnum):
    GOOD = 0
    POOR = 1
    DEAD = 2


class Finding(NamedTuple):
    """A feed's health, and why it is not good."""

    health: Health
    reason: str = ""


GOOD = Finding(Health.GOOD)


class Newest(NamedTuple):
    """When any source of an instrument last sent each kind of data; log time in ns, 0 for never."""

    trade: int
    quote: int
    book: int

    @classmethod
    def of(cls, feeds: Sequence[Feed]) -> Newest:
        return cls(
            max([feed.trade.seen_ns for feed in feeds]),
            max([feed.quote.seen_ns for feed in feeds]),
            max([feed.book.seen_ns for feed in feeds]),
        )


def learn_alone(feed: Feed, now_ns: int, limits: Limits, counts_from_ns: int = 0) -> bool:
    """Update the channels of an instrument's only source at an evaluation; whether anything changed."""
    changed = False
    for channel in (feed.trade, feed.quote, feed.book):
        if channel.seen_ns > channel.marked_ns:
            changed = learn(channel, now_ns, limits, counts_from_ns)
        if channel.lacks_ns:  # from when it had another
            channel.lacks_ns, changed = 0, True
    return changed


def learn_beside(feed: Feed, newest: Newest, now_ns: int, limits: Limits, counts_from_ns: int = 0) -> bool:
    """The same for one of several sources."""
    changed = False
    for channel, newest_ns in ((feed.trade, newest.trade), (feed.quote, newest.quote), (feed.book, newest.book)):
        if channel.seen_ns > channel.marked_ns:
            changed = learn(channel, now_ns, limits, counts_from_ns)
        if newest_ns > channel.seen_ns or channel.lacks_ns:
            changed |= compare(channel, newest_ns, counts_from_ns)
    return changed


def learn(channel: Channel, now_ns: int, limits: Limits, counts_from_ns: int = 0) -> bool:
    """Update the expected interval at an evaluation; whether the feed has sent anything since the last one."""
    if channel.seen_ns <= channel.marked_ns:
        return False
    if channel.marked_ns < counts_from_ns:
        channel.samples = 0
    elif channel.marked_ns:
        interval_ns = now_ns - channel.marked_ns
        if interval_ns > limits.stale_after_ns:  # patience is never less
            interval_ns = min(interval_ns, _patience_ns(channel, limits, counts_from_ns))
        channel.samples = min(channel.samples + 1, MAX_SAMPLES)
        channel.interval_ns += (interval_ns - channel.interval_ns) // channel.samples
    channel.marked_ns = now_ns
    return True


def compare(channel: Channel, newest_ns: int, counts_from_ns: int = 0) -> bool:
    """Record at an evaluation since when another source has had data that this one lacks; whether that changed."""
    before = channel.lacks_ns
    if newest_ns <= channel.seen_ns or newest_ns < counts_from_ns:
        channel.lacks_ns = 0
    elif before <= channel.seen_ns or before < counts_from_ns:
        channel.lacks_ns = newest_ns
    return channel.lacks_ns != before


def _patience_ns(channel: Channel, limits: Limits, counts_from_ns: int) -> int:
    if channel.samples < MIN_SAMPLES or channel.marked_ns < counts_from_ns:
        return max(UNKNOWN_INTERVAL_NS, limits.stale_after_ns)
    return max(SILENT_AFTER * channel.interval_ns, limits.stale_after_ns)


def judge(
    feed: Feed, source: SourceState, newest: Newest, now_ns: int, limits: Limits, counts_from_ns: int = 0
) -> Finding:
    """A feed's health at `now_ns`, from its data and that of the others."""
    seen_ns = feed.seen_ns
    if source.down_ns and source.down_ns >= seen_ns:
        return Finding(Health.DEAD, f"disconnected ({source.down_reason})")
    if source.beat_ns and now_ns - max(source.beat_ns, seen_ns) >= limits.stale_after_ns:
        return Finding(Health.DEAD, f"no sign of its ingestor for {_seconds(now_ns - source.beat_ns)}")
    silent = _silent(feed, newest, limits, counts_from_ns)
    if silent.health is Health.DEAD:
        return silent
    if source.late_since_ns and source.late_to_ns - source.late_since_ns >= limits.stale_after_ns:
        return Finding(Health.POOR, f"late by more than {_seconds(limits.max_latency_ns)}")
    if source.faults >= limits.max_faults:
        return Finding(Health.POOR, f"{source.faults:.0f} frames a minute cannot be understood")
    if feed.gap_rate >= limits.max_gaps:
        return Finding(Health.POOR, f"{feed.gap_rate:.0f} gaps a minute")
    return silent


def _silent(feed: Feed, newest: Newest, limits: Limits, counts_from_ns: int) -> Finding:
    found = GOOD
    for kind, channel, newest_ns, verdict in (
        ("trades", feed.trade, newest.trade, Health.DEAD),
        ("quotes", feed.quote, newest.quote, Health.DEAD),
        ("books", feed.book, newest.book, Health.POOR),
    ):
        if not channel.seen_ns:
            if newest_ns and kind != "books":
                found = Finding(Health.POOR, f"no {kind} from it yet")
            continue
        if not channel.lacks_ns:
            continue
        behind_ns = newest_ns - channel.lacks_ns
        if behind_ns >= _patience_ns(channel, limits, counts_from_ns):
            found = Finding(verdict, f"no {kind} for {_seconds(behind_ns)} while another source has them")
            if verdict is Health.DEAD:
                return found
    return found


def silent_since(feed: Feed, now_ns: int, limits: Limits, counts_from_ns: int = 0) -> int | None:
    """Since when (log time, ns) a feed has sent nothing at all, if that is unusually long; else None.

    For people only: without another source, a fault cannot be distinguished from a quiet market.
    """
    spoken = [channel for channel in (feed.trade, feed.quote, feed.book) if channel.seen_ns]
    silent_ns = now_ns - max(feed.seen_ns, counts_from_ns)
    if not spoken or silent_ns < min(_patience_ns(channel, limits, counts_from_ns) for channel in spoken):
        return None
    return feed.seen_ns


def note(feed: Feed, finding: Finding, now_ns: int, limits: Limits, counts_from_ns: int = 0) -> bool:
    """Record since when a feed has been good; whether that changed anything. One without data yet has shown nothing."""
    before = feed.healthy_since_ns, feed.failures
    if finding.health is not Health.GOOD or feed.seen_ns < counts_from_ns:
        feed.healthy_since_ns = 0
    elif not feed.healthy_since_ns:
        feed.healthy_since_ns = now_ns
    elif now_ns - feed.healthy_since_ns >= FORGET_AFTER * limits.recover_after_ns:
        feed.failures = 0
    return before != (feed.healthy_since_ns, feed.failures)


class Choice(NamedTuple):
    """The source to switch to, and why; `failed` if the one in use is left for a fault."""

    source: str
    reason: str
    failed: bool


def choose(
    order: Sequence[str],
    active: str,
    feeds: Mapping[str, Feed],
    findings: Mapping[str, Finding],
    now_ns: int,
    limits: Limits,
    *,
    begins: bool,
) -> Choice | None:
    """The source to switch to, None to stay. `order`: the allowed sources that have sent anything, best first.

    `begins`: no source has been followed for long yet, so the preferred one need not prove that it is good.
    """
    mine = findings.get(active, Finding(Health.DEAD, "not among the sources"))
    # None is better than a good one.
    others = [name for name in order if name != active] if mine.health is not Health.GOOD else []
    for name in sorted(others, key=lambda name: findings[name].health):
        health = findings[name].health
        steady = mine.health is Health.DEAD or _good_for(feeds[name], now_ns) >= limits.stale_after_ns
        if health < mine.health and steady:
            return Choice(name, f"{active}: {mine.reason}", failed=True)
    for name in order:
        if name == active:
            return None
        good_ns = _good_for(feeds[name], now_ns)
        if begins and not feeds[name].failures and findings[name].health is not Health.DEAD:
            return Choice(name, f"{name} is preferred", failed=False)
        if good_ns >= limits.recover_after_ns << min(max(feeds[name].failures - 1, 0), MAX_DOUBLINGS):
            return Choice(name, f"{name} is preferred, and was good for {_seconds(good_ns)}", failed=False)
    return None


def _good_for(feed: Feed, now_ns: int) -> int:
    return now_ns - feed.healthy_since_ns if feed.healthy_since_ns else -1


def _seconds(ns: int) -> str:
    return f"{ns / SECOND_NS:.1f} s"
