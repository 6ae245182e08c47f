"""The rules by which a source is found at fault, left, and taken again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.stream.failover import (
    GOOD,
    MIN_SAMPLES,
    SECOND_NS,
    SILENT_AFTER,
    Finding,
    Health,
    Limits,
    Newest,
    choose,
    judge,
    learn,
    note,
)
from mdstream.stream.state import Channel, Feed, SourceState

NOW = 1_000_000 * SECOND_NS
LIMITS = Limits()
POOR, DEAD = Finding(Health.POOR, "late"), Finding(Health.DEAD, "gone")


def ago(seconds: float) -> int:
    return NOW - int(seconds * SECOND_NS)


def channel(silent_s: float, *, interval_s: float = 0.25, samples: int = 64) -> Channel:
    """A channel that lacks what others have had since its last data."""
    return Channel(ago(silent_s), ago(silent_s), int(interval_s * SECOND_NS), samples, ago(silent_s))


def feed(trade: Channel | None = None, quote: Channel | None = None, book: Channel | None = None) -> Feed:
    return Feed(trade=trade or channel(0), quote=quote or channel(0), book=book or channel(0))


def found(mine: Feed, source: SourceState | None = None) -> tuple[str, str]:
    """What is found of a feed beside one that speaks."""
    message = judge(mine, source or SourceState(beat_ns=NOW), Newest.of([mine, feed()]), NOW, LIMITS)
    return message.health.name, message.reason


def test_feed_that_speaks_is_good() -> None:
    assert found(feed()) == ("GOOD", "")


@pytest.mark.parametrize(
    ("silent_s", "interval_s", "health"),
    [
        (2.9, 0.25, "GOOD"),
        (3.0, 0.25, "DEAD"),
        (3.0, 0.5, "GOOD"),
        (5.0, 0.5, "DEAD"),
        (199, 20, "GOOD"),
        (200, 20, "DEAD"),
    ],
)
def test_silence_counts_beyond_stale_after_and_the_feeds_usual_interval(
    silent_s: float, interval_s: float, health: str
) -> None:
    """Ten times its usual silence, but never less than stale_after."""
    assert found(feed(trade=channel(silent_s, interval_s=interval_s)))[0] == health


def test_feed_whose_interval_is_not_known_yet_is_given_time() -> None:
    fresh = channel(10, samples=MIN_SAMPLES - 1)
    assert found(feed(trade=fresh))[0] == "GOOD"
    assert found(feed(trade=channel(30, samples=MIN_SAMPLES - 1)))[0] == "DEAD"


def test_silence_of_all_is_no_fault() -> None:
    """Nobody speaks: the market is quiet."""
    quiet = feed(channel(60), channel(60), channel(60))
    assert judge(quiet, SourceState(beat_ns=NOW), Newest.of([quiet, quiet]), NOW, LIMITS) == GOOD


@pytest.mark.parametrize(
    ("mine", "source", "expected"),
    [
        (feed(trade=channel(5)), None, ("DEAD", "no trades for 5.0 s while another source has them")),
        (feed(quote=channel(5)), None, ("DEAD", "no quotes for 5.0 s while another source has them")),
        (feed(book=channel(5)), None, ("POOR", "no books for 5.0 s while another source has them")),
        (feed(trade=Channel()), None, ("POOR", "no trades from it yet")),
        (feed(book=Channel()), None, ("GOOD", "")),
        (feed(), SourceState(late_since_ns=ago(4), late_to_ns=ago(1)), ("POOR", "late by more than 2.0 s")),
        (feed(), SourceState(late_since_ns=ago(9), late_to_ns=ago(7)), ("GOOD", "")),
        (feed(), SourceState(beat_ns=NOW, faults=30.4), ("POOR", "30 frames a minute cannot be understood")),
        (
            feed(channel(2.5), channel(2.5), channel(2.5)),
            SourceState(beat_ns=ago(0.5), down_ns=ago(2.4), down_reason="closed (1006)"),
            ("DEAD", "disconnected (closed (1006))"),
        ),
        (feed(channel(1), channel(1), channel(1)), SourceState(beat_ns=NOW, down_ns=ago(2)), ("GOOD", "")),
        (
            feed(channel(4), channel(4), channel(4)),
            SourceState(beat_ns=ago(4.5)),
            ("DEAD", "no sign of its ingestor for 4.5 s"),
        ),
        (feed(), SourceState(beat_ns=ago(60)), ("GOOD", "")),
        (feed(), SourceState(), ("GOOD", "")),
    ],
    ids=["trades silent", "quotes silent", "books silent", "no trades yet", "no books yet", "late", "late for a moment",
         "faulty", "disconnected", "data since the disconnect", "ingestor gone", "data without heartbeats",
         "a log without heartbeats"],
)  # fmt: skip
def test_what_is_found_of_a_feed(mine: Feed, source: SourceState | None, expected: tuple[str, str]) -> None:
    assert found(mine, source) == expected


def test_gap_rate_is_a_fault() -> None:
    gappy = feed()
    gappy.gap_rate = 10
    assert found(gappy) == ("POOR", "10 gaps a minute")


@given(st.lists(st.integers(1, 40), min_size=MIN_SAMPLES + 1, max_size=200))
def test_interval_is_the_mean_time_between_evaluations_with_new_data(gaps: list[int]) -> None:
    """Within what it was ever silent for; evaluations without new data change nothing."""
    known, look_ns = Channel(), NOW
    for gap in gaps:
        for _ in range(gap):
            look_ns += SECOND_NS // 4
            learn(known, look_ns, LIMITS)
        known.seen_ns = look_ns - 1
        assert learn(known, look_ns, LIMITS)
    assert min(gaps[1:]) * SECOND_NS // 4 - len(gaps) <= known.interval_ns <= max(gaps[1:]) * SECOND_NS // 4


def test_one_long_silence_does_not_spoil_the_interval() -> None:
    """A stall of an hour counts no more than what is a stall."""
    known = Channel()
    for check in range(1, 100):
        known.seen_ns = NOW + check * SECOND_NS // 4
        learn(known, known.seen_ns, LIMITS)
    known.seen_ns += 3600 * SECOND_NS
    learn(known, known.seen_ns, LIMITS)
    assert SILENT_AFTER * known.interval_ns <= 3 * SECOND_NS


# -- what is kept of a standby


@pytest.mark.parametrize(("silent_s", "reaches_s"), [(0, 9), (3, 12), (30, 39), (31, 39), (3600, 39)])
def test_standby_is_kept_back_to_the_last_trade_of_the_followed_feed(silent_s: float, reaches_s: float) -> None:
    """Nine seconds before it, in case the feed was late; never more than 39 s, which a restart has to read again."""
    assert LIMITS.buffer_from_ns(feed(trade=channel(silent_s)), NOW) == ago(reaches_s)


# -- choosing


def chosen(
    active: str, *, begins: bool = False, failures: int = 0, **feeds: tuple[Finding, float | None]
) -> str | None:
    """The source taken of those given, the preferred first: what was found of each, and for how long it is good."""
    states = {
        name: Feed(healthy_since_ns=0 if good_s is None else ago(good_s), failures=failures)
        for name, (_, good_s) in feeds.items()
    }
    findings = {name: finding for name, (finding, _) in feeds.items()}
    choice = choose(list(feeds), active, states, findings, NOW, LIMITS, begins=begins)
    return choice.source if choice else None


@pytest.mark.parametrize(
    ("active", "a", "b", "expected"),
    [
        ("a", (GOOD, 99), (GOOD, 99), None),
        ("a", (DEAD, None), (GOOD, 0), "b"),
        ("a", (DEAD, None), (POOR, None), "b"),
        ("a", (DEAD, None), (DEAD, None), None),
        ("a", (POOR, None), (GOOD, 3), "b"),
        ("a", (POOR, None), (GOOD, 2), None),
        ("a", (POOR, None), (POOR, None), None),
        ("a", (GOOD, 1), (GOOD, 99), None),
        ("b", (GOOD, 29), (GOOD, 99), None),
        ("b", (GOOD, 30), (GOOD, 99), "a"),
        ("b", (POOR, None), (DEAD, None), "a"),
        ("b", (GOOD, 1), (DEAD, None), "a"),
        ("b", (DEAD, None), (POOR, None), None),
        ("gone", (POOR, None), (GOOD, 0), "b"),
        ("gone", (DEAD, None), (DEAD, None), None),
    ],
)
def test_which_source_is_taken(
    active: str, a: tuple[Finding, float | None], b: tuple[Finding, float | None], expected: str | None
) -> None:
    """`a` is preferred to `b`; each with what was found of it and for how many seconds it has been good."""
    assert chosen(active, a=a, b=b) == expected


@pytest.mark.parametrize(("failures", "needs_s"), [(0, 30), (1, 30), (2, 60), (3, 120), (5, 480), (50, 480)])
def test_source_that_failed_has_to_show_more(failures: int, needs_s: int) -> None:
    assert chosen("b", failures=failures, a=(GOOD, needs_s - 1), b=(GOOD, 99)) is None
    assert chosen("b", failures=failures, a=(GOOD, needs_s), b=(GOOD, 99)) == "a"


def test_failures_are_forgotten_after_a_long_time_without() -> None:
    mine = Feed(healthy_since_ns=ago(299), failures=4)
    assert not note(mine, GOOD, NOW, LIMITS)
    assert note(mine, GOOD, NOW + SECOND_NS, LIMITS)
    assert mine.failures == 0


def test_preferred_source_need_not_wait_in_the_beginning() -> None:
    assert chosen("b", begins=True, a=(GOOD, 0), b=(GOOD, 1)) == "a"
    assert chosen("b", begins=True, a=(DEAD, None), b=(GOOD, 1)) is None


def test_of_three_the_best_preferred_among_the_healthiest_is_taken() -> None:
    assert chosen("a", a=(DEAD, None), b=(POOR, None), c=(GOOD, 0)) == "c"
    assert chosen("a", a=(DEAD, None), b=(GOOD, 0), c=(GOOD, 99)) == "b"
