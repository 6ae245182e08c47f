"""mdstream/audit/events.py: quotes and books of two prefixes, by count and hash per instrument and minute."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mdstream.audit.events import EventTally, Minute, compare
from mdstream.audit.trades import Bucket, Scope

FIRST = Bucket("binance", "BTCUSDT", 10)
SECOND = Bucket("binance", "BTCUSDT", 11)
OTHER = Bucket("okx", "ETHUSDT", 10)

Events = list[tuple[Bucket, int]]


def tally(events: Events, scope: Scope | None = None, *, first_seq: int = 1) -> EventTally:
    """Events by bucket and hash, numbered in their order."""
    made = EventTally(scope or Scope())
    for seq, (bucket, content_hash) in enumerate(events, first_seq):
        made.add(bucket, seq, content_hash)
    return made


@given(st.lists(st.tuples(st.sampled_from([FIRST, SECOND, OTHER]), st.integers(0, 2**64 - 1))), st.randoms())
def test_same_events_are_identical_whatever_their_order_and_numbers(events: Events, random: Random) -> None:
    """`seq` begins elsewhere in a reprocessed stream: it is no part of what is compared."""
    shuffled = list(events)
    random.shuffle(shuffled)
    found = compare(tally(events), tally(shuffled, first_seq=1000))
    assert {minute.verdict for minute in found} <= {"identical"}
    assert sum(minute.here for minute in found) == len(events)


def test_each_kind_of_difference_is_reported() -> None:
    """By minute: another content, another count, and what one side alone has."""
    here = tally([(FIRST, 1), (FIRST, 2), (SECOND, 3), (OTHER, 4)])
    later = Bucket("okx", "ETHUSDT", 12)
    there = tally([(FIRST, 1), (FIRST, 5), (SECOND, 3), (SECOND, 3), (later, 4)])
    assert compare(here, there) == [
        Minute(FIRST, "different", 2, 2),
        Minute(OTHER, "only here", 1, 0),
        Minute(SECOND, "different", 1, 2),
        Minute(later, "only there", 0, 1),
    ]


def test_repeated_event_counts_once() -> None:
    """A crash between output and checkpoint repeats events with their numbers."""
    repeated = tally([(FIRST, 1), (FIRST, 2)])
    repeated.add(FIRST, 2, 2)
    assert compare(repeated, tally([(FIRST, 1), (FIRST, 2)])) == [Minute(FIRST, "identical", 2, 2)]


def test_events_outside_the_scope_do_not_count() -> None:
    """Their numbers do: a repeat is a repeat wherever the range begins."""
    scope = Scope(first_minute=11)
    assert compare(tally([(FIRST, 1), (SECOND, 2)], scope), tally([(SECOND, 2)], scope)) == [
        Minute(SECOND, "identical", 1, 1)
    ]
