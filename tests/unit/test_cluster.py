"""mdstream/tools/cluster.py: what is made of offsets, heartbeats and status records."""

from __future__ import annotations

import pytest
from aiokafka import TopicPartition

from mdstream.events import SYSTEM, FeedStatus
from mdstream.tools.cluster import FeedRecord, Log, feed_of

TP = TopicPartition("md.trades", 0)
S = 1_000_000_000
NOW = 1000 * S


def heartbeat(second: int, *, connected: bool = True, closed: bool = False) -> FeedRecord:
    return FeedRecord("okx", second * S, connected=connected, symbols=3, closed=closed)


def status(second: int, state: str, reason: str | None = None) -> FeedRecord:
    return FeedRecord("okx", second * S, state=state, reason=reason)


@pytest.mark.parametrize(
    ("committed", "end", "lag"),
    [(100, 150, 50), (150, 150, 0), (900, 150, 0), (0, 150, 110)],
    ids=["behind", "at the end", "end reported too low", "committed before what is kept"],
)
def test_lag_is_never_negative_and_counts_only_what_is_kept(committed: int, end: int, lag: int) -> None:
    """The end is asked for before the offset: retention may have deleted what was not read."""
    assert Log({TP: 40}, {TP: end}).lag(TP, committed) == lag


def test_feed_is_connected_while_its_heartbeats_say_so() -> None:
    """The state is the ingestor's own report, a few seconds old at most."""
    feed = feed_of("okx", "crypto", [status(990, "connected"), heartbeat(999)], None, NOW)
    assert (feed.state, feed.symbols, feed.heartbeat_ns, feed.changed_ns) == ("connected", 3, 999 * S, 990 * S)


def test_feed_is_silent_once_its_heartbeats_stop() -> None:
    """An ingestor that was killed says nothing at all."""
    feed = feed_of("okx", "crypto", [heartbeat(994)], None, NOW)
    assert feed.state == "silent"
    assert feed.reason == "no heartbeat: its ingestor has ended, or cannot reach the broker"


@pytest.mark.parametrize(
    ("last", "state"),
    [
        (heartbeat(999, closed=True), "closed"),
        (heartbeat(999), "connected"),  # the market has opened
        (heartbeat(994, closed=True), "silent"),
        (heartbeat(999, connected=False, closed=True), "disconnected"),
    ],
)
def test_feed_is_closed_while_it_is_connected_and_its_markets_are(last: FeedRecord, state: str) -> None:
    """A night says nothing of an ingestor that is gone, or of a connection that is lost."""
    assert feed_of("okx", "crypto", [heartbeat(990, closed=True), last], None, NOW).state == state


def test_feed_keeps_the_reason_of_its_last_change() -> None:
    """Heartbeats that say the same do not wipe it out."""
    records = [status(990, "disconnected", "venue closed"), heartbeat(999, connected=False)]
    feed = feed_of("okx", "crypto", records, None, NOW)
    assert (feed.state, feed.reason, feed.changed_ns) == ("disconnected", "venue closed", 990 * S)


def test_feed_that_was_stopped_stays_so() -> None:
    """A stop is reported by a status record; silence after it changes nothing."""
    feed = feed_of("okx", "crypto", [heartbeat(500), status(501, "gave_up", "banned")], None, NOW)
    assert (feed.state, feed.reason) == ("gave_up", "banned")


def test_feed_without_records_of_late_shows_its_last_change() -> None:
    """md.status is kept longer than the tail of the raw topic reaches."""
    change = FeedStatus(SYSTEM, "okx", "disconnected", "the ingestor stops", 100 * S)
    feed = feed_of("okx", "", [], change, NOW)
    assert (feed.state, feed.reason, feed.changed_ns) == ("disconnected", "the ingestor stops", 100 * S)
