"""The embedded broker's log: what was appended is read, until retention, compaction or the limit drops it."""

from __future__ import annotations

import struct

import pytest
from aiokafka.record.memory_records import MemoryRecords
from broker_batches import batch, offsets
from hypothesis import given
from hypothesis import strategies as st

from mdstream.broker import records
from mdstream.broker.log import CORRUPT, MAX_PRODUCERS, OUT_OF_ORDER, STALE_EPOCH, TOO_LARGE, Log, RefusedError, Rules

COMPACTED = Rules(compact=True)


def filled(sizes: list[int], rules: Rules | None = None) -> Log:
    """A log of batches so large, each taken a second after the one before."""
    log = Log(rules or Rules())
    for number, size in enumerate(sizes):
        log.append(batch([b"k"] * size), 1000 * number)
    return log


SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=20)


# -- reading


@given(SIZES, st.data())
def test_read_gives_every_record_from_an_offset_on(sizes: list[int], data: st.DataObject) -> None:
    """Whole batches, the one that holds the offset first; at the end nothing."""
    log = filled(sizes)
    assert log.end == sum(sizes)
    start = data.draw(st.integers(0, log.end))
    found = offsets(log.read(start, 1 << 20))
    assert [offset for offset in found if offset >= start] == list(range(start, log.end))
    assert not found or start - found[0] < 5


@given(SIZES, st.integers(0, 300))
def test_read_gives_one_batch_at_least_and_no_more_bytes_than_asked(sizes: list[int], limit: int) -> None:
    """A batch larger than what a client asks for would stop it for ever."""
    log = filled(sizes)
    position = 0
    while position < log.end:
        content = log.read(position, limit)
        found = offsets(content)
        assert found[0] == position
        assert len(content) <= limit or len(found) <= 5
        position = found[-1] + 1
    assert position == sum(sizes)


def test_append_time_replaces_the_producers_and_keeps_the_checksum_right() -> None:
    """message.timestamp.type=LogAppendTime: a replayed capture is as old as its writing."""
    log = Log(Rules(append_time=True))
    log.append(batch([b"a", b"b"]), 77_000)
    [made] = [MemoryRecords(log.read(0, 9)).next_batch()]
    assert made.validate_crc()
    assert [record.timestamp for record in made] == [77_000, 77_000]
    assert log.since(77_000) == (0, 77_000)
    assert log.since(77_001) is None


def test_since_finds_the_record_within_its_batch() -> None:
    """Not just its batch: a client that looks up a time wants no older record."""
    log = Log(Rules())
    log.append(batch([b"a"] * 3, time_ms=10), 0)
    log.append(batch([b"a"] * 3, time_ms=20), 0)
    assert [log.since(time_ms) for time_ms in (0, 11, 13, 22, 23)] == [(0, 10), (1, 11), (3, 20), (5, 22), None]


# -- refusing


@pytest.mark.parametrize("spoil", [lambda b: b[:-1], lambda b: b[:-1] + b"x", lambda b: b"", lambda b: b[:16] + b"\1"])
def test_append_refuses_a_corrupt_batch(spoil: object) -> None:
    """Nobody downstream could read it, nor what comes after it."""
    assert callable(spoil)
    log = Log(Rules())
    with pytest.raises(RefusedError) as refused:
        log.append(spoil(batch([b"k"])), 0)
    assert (refused.value.code, log.end) == (CORRUPT, 0)


def test_append_refuses_a_batch_over_the_topics_limit() -> None:
    """max.message.bytes."""
    with pytest.raises(RefusedError) as refused:
        Log(Rules(max_message_bytes=70)).append(batch([b"k"] * 2), 0)
    assert refused.value.code == TOO_LARGE


# -- idempotent producers


def test_a_repeated_batch_is_answered_with_its_first_offset_and_kept_once() -> None:
    """The producer had no answer and sent it again."""
    log = Log(Rules())
    sent = [batch([b"k"] * 2, producer=(7, 0, 2 * number)) for number in range(3)]
    assert [log.append(content, 0)[0] for content in sent] == [0, 2, 4]
    assert [log.append(content, 0) for content in sent] == [(0, None), (2, None), (4, None)]
    assert log.end == 6


def test_a_skipped_sequence_and_an_older_epoch_are_refused() -> None:
    """Otherwise a batch that overtook another would be in the log before it."""
    log = Log(Rules())
    log.append(batch([b"k"], producer=(7, 1, 0)), 0)
    for producer, code in (((7, 1, 2), OUT_OF_ORDER), ((7, 0, 0), STALE_EPOCH)):
        with pytest.raises(RefusedError) as refused:
            log.append(batch([b"k"], producer=producer), 0)
        assert refused.value.code == code
    assert log.append(batch([b"k"], producer=(7, 2, 0)), 0)[0] == 1


def test_sequences_go_on_at_zero_after_the_largest() -> None:
    """They have 31 bits."""
    log = Log(Rules())
    log.append(batch([b"k"] * 2, producer=(7, 0, (1 << 31) - 2)), 0)
    assert log.append(batch([b"k"], producer=(7, 0, 0)), 0)[0] == 2


def test_only_the_producers_that_wrote_last_are_remembered() -> None:
    """Each start of a process is a new one: a log that remembered all would grow for ever."""
    log = Log(Rules())
    for producer in range(1, MAX_PRODUCERS + 1):
        log.append(batch([b"k"], producer=(producer, 0, 0)), 0)
    log.append(batch([b"k"], producer=(1, 0, 1)), 0)
    log.append(batch([b"k"], producer=(MAX_PRODUCERS + 1, 0, 0)), 0)
    assert log.append(batch([b"k"], producer=(1, 0, 1)), 0) == (MAX_PRODUCERS, None)
    assert log.append(batch([b"k"], producer=(2, 0, 0)), 0)[0] == MAX_PRODUCERS + 2


# -- forgetting


@given(SIZES, st.data())
def test_delete_before_keeps_every_record_from_the_offset_on(sizes: list[int], data: st.DataObject) -> None:
    """DeleteRecords: the log begins at the requested offset, and the bytes before it are free."""
    log = filled(sizes)
    size, until = log.size, data.draw(st.integers(0, log.end))
    log.delete_before(until)
    assert (log.start, log.end) == (until, sum(sizes))
    assert {offset for offset in offsets(log.read(until, 1 << 20)) if offset >= until} == set(range(until, log.end))
    assert log.size == size - filled(sizes).size + sum(len(b) + 300 for b in kept(log))


def kept(log: Log) -> list[bytes]:
    """The batches that a log holds."""
    content, found = log.read(log.start, 1 << 30), []
    while content:
        (length,) = struct.unpack_from(">i", content, 8)
        found.append(content[: 12 + length])
        content = content[12 + length :]
    return found


def test_expire_drops_what_is_older_than_retention_ms() -> None:
    """By the time it was taken, whatever the records say."""
    log = filled([1] * 10, Rules(retention_ms=3000))
    log.expire(9000)
    assert (log.start, log.end) == (6, 10)


def test_expire_drops_the_oldest_beyond_retention_bytes() -> None:
    """The log is no larger afterwards than its topic allows."""
    one = filled([1]).size
    log = filled([1] * 10, Rules(retention_bytes=3 * one + 1))
    log.expire(9000)
    assert (log.start, log.end, log.size) == (7, 10, 3 * one)


@given(st.lists(st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=3), min_size=1, max_size=30))
def test_compaction_keeps_the_newest_record_of_each_key(batches: list[list[bytes]]) -> None:
    """Whole batches go, once every key in them has a newer record; offsets stay."""
    log = Log(COMPACTED)
    for keys in batches:
        log.append(batch(keys), 0)
    log.expire(COMPACTED.compaction_lag_ms)
    written = [key for keys in batches for key in keys]
    newest = {key: offset for offset, key in enumerate(written)}
    assert set(newest.values()) <= set(offsets(log.read(0, 1 << 20)))
    assert len(kept(log)) <= 3
    assert log.end == len(written)
    assert log.size == sum(len(content) + 300 for content in kept(log))


def test_compaction_leaves_alone_what_is_younger_than_the_topic_says() -> None:
    """A takeover reads md.state for up to a minute, and counts on what it holds."""
    rules = Rules.of({"cleanup.policy": "compact", "min.compaction.lag.ms": "120000"})
    log = filled([1] * 100, rules)
    log.expire(99_000 + 60_000)
    assert offsets(log.read(0, 1 << 20))[0] == 40


def test_compaction_leaves_the_last_minute_alone() -> None:
    """A reader that follows the log sees every record, as with Kafka, which never compacts the segment that is written
    to."""
    log = filled([1] * 100, COMPACTED)
    log.expire(99_000)
    assert offsets(log.read(0, 1 << 20))[0] == 40


def test_header_of_a_batch_is_read_as_it_was_written() -> None:
    """Producer, epoch and sequence identify repeats."""
    header = records.read(batch([b"a", b"b", b"c"], producer=(1 << 40, 3, 9), time_ms=5))
    assert header == records.Header(0, 2, 7, 1 << 40, 3, 9, 3)
