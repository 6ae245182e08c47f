"""What may be committed of one partition, and the holes in Faust's own bookkeeping that it must not have.

Faust 0.15.3 (`Consumer._new_offset`, `_commit_offsets`): a single unacknowledged record at the head is passed over,
with a commit before it or without any (faust #606); a commit that failed is believed (faust #316); after a redelivery
the offset crawls on by one at each interval.
"""

from __future__ import annotations

import itertools
import logging
from random import Random

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from mdstream.transport.driver import _start
from mdstream.transport.offsets import Offsets

STARTS = st.integers(0, 2**62)
SIZES = st.lists(st.integers(1, 2000), min_size=1, max_size=30)


def delivered(start: int, sizes: list[int], *, confirmed: int | None = None) -> tuple[Offsets, list[int]]:
    """Bookkeeping with a batch of each size delivered from `start`, and where each batch ends."""
    offsets = Offsets(start, confirmed=confirmed)
    ends = list(itertools.accumulate(sizes, initial=start))[1:]
    for end in ends:
        offsets.deliver(end)
    return offsets, ends


def longest_prefix(start: int, ends: list[int], acknowledged: set[int]) -> int:
    """The rule said naively: the end of the last batch before the first one that is not acknowledged."""
    prefix = itertools.takewhile(acknowledged.__contains__, ends)
    return max(prefix, default=start)


# -- invariants


@given(STARTS, SIZES, st.data())
def test_committable_is_longest_acknowledged_prefix_in_any_order(
    start: int, sizes: list[int], data: st.DataObject
) -> None:
    """Whatever the order and repetition of acknowledgements, the prefix alone may be committed, and it never falls."""
    offsets, ends = delivered(start, sizes)
    done: set[int] = set()
    before = offsets.committable
    for end in data.draw(st.lists(st.sampled_from(ends), max_size=60)):
        offsets.acknowledge(end)
        done.add(end)
        assert offsets.committable == longest_prefix(start, ends, done)
        assert offsets.committable >= before
        before = offsets.committable


@given(STARTS, SIZES, st.randoms(use_true_random=False))
def test_committable_reaches_end_when_all_are_acknowledged(start: int, sizes: list[int], random: Random) -> None:
    """Once every batch is acknowledged, nothing is left behind and nothing is kept in memory."""
    offsets, ends = delivered(start, sizes)
    shuffled = list(ends)
    random.shuffle(shuffled)
    for end in shuffled:
        offsets.acknowledge(end)
    assert offsets.committable == offsets.delivered == ends[-1]
    assert offsets.unacknowledged == 0


@given(STARTS, st.data())
def test_commit_offers_prefix_until_broker_confirms_in_any_interleaving(start: int, data: st.DataObject) -> None:
    """Deliveries, acknowledgements and commits that succeed or fail, mixed: `pending` is the prefix or nothing new."""
    offsets = Offsets(start, confirmed=None)
    ends: list[int] = []
    done: set[int] = set()
    broker: int | None = None
    for step in data.draw(st.lists(st.sampled_from(["deliver", "acknowledge", "commit", "commit fails"]), max_size=80)):
        if step == "deliver":
            ends.append((ends[-1] if ends else start) + data.draw(st.integers(1, 50)))
            offsets.deliver(ends[-1])
        elif step == "acknowledge" and ends:
            end = data.draw(st.sampled_from(ends))
            done.add(end)
            offsets.acknowledge(end)
        elif step == "commit" and (requested := offsets.pending()) is not None:
            offsets.confirm(requested)
            broker = requested
        prefix = longest_prefix(start, ends, done)
        assert offsets.committable == prefix
        assert offsets.confirmed == broker
        assert offsets.pending() == (None if broker == prefix else prefix)
        assert offsets.unacknowledged == len([end for end in ends if end > prefix])


@given(SIZES, st.lists(st.integers(-10, 100_000), max_size=30))
def test_unknown_acknowledgement_changes_nothing(sizes: list[int], unknown: list[int]) -> None:
    """An offset that no batch ends at acknowledges none, before or after."""
    offsets, ends = delivered(0, sizes)
    for offset in unknown:
        if offset not in ends:
            offsets.acknowledge(offset)
    assert offsets.committable == 0
    for end in ends:
        offsets.acknowledge(end)
    assert offsets.committable == ends[-1]


@pytest.mark.parametrize("end", [99, 150, 120])
def test_delivery_out_of_order_is_refused(end: int) -> None:
    """Batches are delivered in order: one that does not go on is a mistake of ours, and said so."""
    offsets, _ = delivered(100, [50])
    with pytest.raises(ValueError, match="150 was delivered already"):
        offsets.deliver(end)


# -- where reading starts


@pytest.mark.parametrize(
    ("wanted", "earliest", "start"),
    [
        (None, 0, 0),  # nothing is known: the beginning, not the end
        (None, 70, 70),
        (40, 0, 40),
        (0, 0, 0),
        (40, 60, 60),  # retention was faster
    ],
)
def test_reading_starts_where_it_is_wanted_else_at_the_beginning(wanted: int | None, earliest: int, start: int) -> None:
    """Always a position of ours, never the broker's idea of one."""
    assert _start(TP("md.raw.crypto", 3), wanted, earliest, logging.getLogger()) == start


def test_records_deleted_before_they_were_processed_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    """What retention took away is lost, and the log says what."""
    _start(TP("md.raw.crypto", 3), 40, 60, logging.getLogger())
    assert "records 40 to 59 were deleted before they were processed" in caplog.text


# -- the holes of Faust's bookkeeping


def test_single_unacknowledged_record_at_head_holds_the_offset_after_a_commit() -> None:
    """committed 10, then record 10 in flight and 11..19 acknowledged: 10 stays (Faust goes to 20)."""
    offsets, _ = delivered(10, [1, 9], confirmed=10)
    offsets.acknowledge(20)
    assert offsets.committable == 10
    assert offsets.pending() is None
    offsets.acknowledge(11)
    assert offsets.pending() == 20


def test_single_unacknowledged_record_at_head_holds_the_offset_without_any_commit() -> None:
    """Nothing committed so far, record 0 in flight and 1..9 acknowledged: 0 is what is committed (faust #606)."""
    offsets, _ = delivered(0, [1, 9], confirmed=None)
    offsets.acknowledge(10)
    assert offsets.pending() == 0


def test_start_is_committed_at_once_without_any_commit() -> None:
    """A partition without a committed offset gets one before its first record: a takeover then skips none."""
    assert Offsets(0, confirmed=None).pending() == 0
    assert Offsets(7, confirmed=7).pending() is None


def test_recorded_position_behind_the_commit_is_not_committed() -> None:
    """Reading starts at a checkpoint that is older than the committed offset: the offset waits until it is passed."""
    offsets = Offsets(100, confirmed=140)
    assert offsets.pending() is None
    offsets.deliver(150)
    offsets.acknowledge(150)
    assert offsets.pending() == 150


def test_recorded_position_ahead_of_the_commit_is_committed_at_once() -> None:
    """Reading starts at a checkpoint that is newer than the committed offset: the offset catches up."""
    assert Offsets(140, confirmed=100).pending() == 140


def test_failed_commit_is_offered_again() -> None:
    """Only `confirm` records that the broker has it: asking twice gives the same offset (Faust believes the first)."""
    offsets, (end,) = delivered(0, [5], confirmed=0)
    offsets.acknowledge(end)
    assert offsets.pending() == 5
    assert offsets.pending() == 5
    offsets.confirm(5)
    assert offsets.pending() is None


def test_commit_confirmed_late_does_not_hide_newer_work() -> None:
    """What was acknowledged while a commit was under way is offered next; an older confirmation takes nothing back."""
    offsets, (first, second) = delivered(0, [5, 5], confirmed=0)
    offsets.acknowledge(first)
    requested = offsets.pending()
    offsets.acknowledge(second)
    assert requested == first
    offsets.confirm(requested)
    assert offsets.pending() == second
    offsets.confirm(second)
    offsets.confirm(first)
    assert offsets.confirmed == second


def test_duplicates_after_redelivery_do_not_make_commits_crawl() -> None:
    """The same batches acknowledged again and again: the next commit is the end (Faust goes on by one at a time)."""
    offsets, ends = delivered(842, [10] * 36, confirmed=842)
    for end in ends + ends[:20] + ends[::-1]:
        offsets.acknowledge(end)
    assert offsets.pending() == 1202
    offsets.confirm(1202)
    assert offsets.pending() is None
