"""The embedded broker's memory: what the limit allows, whatever the topics and their rates."""

from __future__ import annotations

from broker_batches import batch, offsets
from hypothesis import given
from hypothesis import strategies as st

from mdstream.broker.log import BATCH_OVERHEAD, Log, Rules
from mdstream.broker.segments import Segments
from mdstream.broker.store import Store

KIB = 1 << 10
ONE = len(batch([b"k"]))


def store(limit_bytes: int, *, partitions: int = 1, **configs: dict[str, str]) -> tuple[Store, dict[str, list[Log]]]:
    """A store with these topics, and their logs."""
    made = Store(limit_bytes)
    for name, config in configs.items():
        made.create(name, partitions, config)
    return made, {name: made.topics[name].logs for name in configs}


def test_store_beyond_its_limit_drops_the_oldest_of_all_logs() -> None:
    """Whatever the topics allow: memory is bounded. What is compacted stays."""
    limit = 10 * (ONE + BATCH_OVERHEAD)  # so small that each batch has a segment of its own
    made, logs = store(limit, a={}, b={"retention.ms": "-1"}, c={"cleanup.policy": "compact"})
    made.append(logs["c"][0], batch([b"k"]))
    for name in "aaaaaabbbbbbab":
        made.append(logs[name][0], batch([b"k"]))
    assert made.size == limit
    assert {name: (log.start, log.end) for name, [log] in logs.items()} == {"a": (5, 7), "b": (0, 7), "c": (0, 1)}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 60)), min_size=1, max_size=60))
def test_store_is_within_its_limit_after_every_append(appends: list[tuple[int, int]]) -> None:
    """Not only once a second: a quick producer writes many limits' worth in that time. The newest batch is kept."""
    limit = 16 * KIB
    made, logs = store(limit, partitions=10, t={})
    for partition, records in appends:
        content = batch([b"k"] * records)
        first = made.append(logs["t"][partition], content)
        assert made.size <= limit + limit // 64 + len(content) + BATCH_OVERHEAD
        assert offsets(logs["t"][partition].read(first, 1)) == list(range(first, first + records))


def test_slow_logs_hold_no_more_memory_than_their_batches() -> None:
    """A hundred logs that get a batch now and then, beside a busy one: their dropped batches take no memory.

    Segments of one log each would hold it until they are full, for hours in a slow log.
    """
    limit = 256 * KIB
    made, logs = store(limit, partitions=101, t={})
    busy, *slow = logs["t"]
    for number in range(2000):
        made.append(busy, batch([b"k"] * 10))
        made.append(slow[number % len(slow)], batch([b"k"]))
    kept = sum(log.size for log in logs["t"])
    assert limit * 0.9 < kept <= made.size <= limit + limit // 32


def test_memory_that_a_longer_retention_keeps_counts() -> None:
    """One batch in it keeps a segment, so the limit counts the whole: memory has to be bounded, not what is in use."""
    limit = 256 * KIB
    made, logs = store(limit, long={}, short={"retention.bytes": "0"})
    content = batch([b"k"] * 100)
    for _ in range(2 * limit // len(content)):
        made.append(logs["long"][0], batch([b"k"]))
        made.append(logs["short"][0], content)
        made.expire()
    assert logs["short"][0].size == 0
    assert logs["long"][0].start > 0
    assert limit * 0.9 < made.size <= limit


def test_segment_is_given_back_once_its_last_batch_is_dropped() -> None:
    """Memory of dropped batches must not stay with the process."""
    segments = Segments(16 * KIB)
    log = Log(Rules(), segments.write)
    content = batch([b"k"] * 10)
    while segments.size <= 2 * 256:
        log.append(content, 0)
    oldest = segments.oldest
    within = sum(each.segment is oldest for each in log.batches)
    del oldest
    size = segments.size
    firsts = [each.first for each in log.batches]
    log.delete_before(firsts[within - 1])
    assert segments.size == size
    log.delete_before(firsts[within])
    assert segments.size == size - within * len(content)
    log.delete_before(log.end)
    assert (segments.size, segments.oldest) == (0, None)


def test_batches_of_every_size_are_read_as_they_were_written() -> None:
    """A batch lies in one segment, also one that is larger than a segment, and one that does not fit the rest of it."""
    segment = 256 * KIB
    log, size = Log(Rules(max_message_bytes=1 << 22), Segments(64 * segment).write), segment // ONE
    written = [batch([b"k"] * records) for records in (1, size // 2, 5 * size, size // 2, 1)]
    firsts = [log.append(content, 0)[0] for content in written]
    read = [log.read(first, 1) for first in firsts]
    assert [content[8:] for content in read] == [content[8:] for content in written]  # behind the base offset
    assert [offsets(content)[0] for content in read] == firsts


def test_store_forgets_a_deleted_topic() -> None:
    """Its bytes are free, and one of the same name begins at 0."""
    made = Store(1 << 20)
    for _ in range(2):
        made.create("a", 1, {})
        made.append(made.topics["a"].logs[0], batch([b"k"]))
        assert made.topics["a"].logs[0].end == 1
        made.delete("a")
        assert made.size == 0
    made.expire()
    assert made.size == 0
