"""The backlog: each queue in order, bounded as a whole, nothing dropped."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from mdstream.ingest.backlog import RECORD_OVERHEAD_BYTES, Backlog, Limits
from mdstream.records import ProducerRecord

ENDLESS = 1 << 40


def record(value: bytes) -> ProducerRecord:
    return b"BTCUSDT", value, 0, []


def add(backlog: Backlog, queue: int, *values: bytes) -> None:
    for value in values:
        backlog.add(queue, record(value), len(value))


def values(records: list[ProducerRecord]) -> list[bytes]:
    return [value or b"" for _, value, _, _ in records]


def test_backlog_gives_a_queue_back_in_order() -> None:
    """Queues do not mix."""
    backlog = Backlog(2)
    add(backlog, 0, b"a", b"b")
    add(backlog, 1, b"x")
    add(backlog, 0, b"c")
    assert backlog.waiting() == [0, 1]
    records, size_bytes, more = backlog.take(0, ENDLESS)
    assert (values(records), size_bytes, more) == ([b"a", b"b", b"c"], 3, False)
    assert backlog.waiting() == [1]


def test_backlog_gives_no_more_than_a_batch_holds() -> None:
    """The rest stays, in order; overhead counts."""
    backlog = Backlog(1)
    add(backlog, 0, *[b"%04d" % i for i in range(10)])
    max_bytes = 3 * (4 + RECORD_OVERHEAD_BYTES)
    taken = []
    while backlog.waiting():
        records, size_bytes, more = backlog.take(0, max_bytes)
        assert size_bytes + len(records) * RECORD_OVERHEAD_BYTES <= max_bytes
        assert more == bool(backlog.waiting())
        taken.append(values(records))
    assert [len(batch) for batch in taken] == [3, 3, 3, 1]
    assert [value for batch in taken for value in batch] == [b"%04d" % i for i in range(10)]


def test_backlog_gives_a_record_alone_that_no_batch_has_room_for() -> None:
    """A frame of megabytes goes by itself rather than never."""
    backlog = Backlog(1)
    add(backlog, 0, b"x" * 1_000, b"y")
    records, _, more = backlog.take(0, 500)
    assert (len(records), more) == (1, True)


def test_backlog_counts_records_until_kafka_has_them() -> None:
    """What is taken is still in memory."""
    backlog = Backlog(1)
    add(backlog, 0, b"abc")
    records, size_bytes, _ = backlog.take(0, ENDLESS)
    assert (backlog.records, backlog.bytes, backlog.empty.is_set()) == (1, 3, False)
    backlog.release(len(records), size_bytes)
    assert (backlog.records, backlog.bytes, backlog.empty.is_set()) == (0, 0, True)


def test_backlog_is_full_at_either_limit() -> None:
    """Of records, or of bytes."""
    by_count, by_bytes = Backlog(1, Limits(records=3)), Backlog(1, Limits(bytes=10))
    add(by_count, 0, b"", b"")
    add(by_bytes, 0, b"123456789")
    assert not by_count.full
    assert not by_bytes.full
    add(by_count, 0, b"")
    add(by_bytes, 0, b"0")
    assert by_count.full
    assert by_bytes.full


def test_backlog_has_room_again_well_below_its_limit() -> None:
    """Not at the first record that leaves: readers would start and stop with each."""
    backlog = Backlog(1, Limits(records=4, resume=0.5))
    add(backlog, 0, b"a", b"b", b"c", b"d")
    backlog.take(0, ENDLESS)
    backlog.release(1, 1)
    assert backlog.full
    backlog.release(1, 1)
    assert not backlog.full
    assert backlog.times_full == 1


async def test_room_waits_until_there_is_some() -> None:
    """A writer that found it full goes on once half was taken."""
    backlog = Backlog(1, Limits(records=2, resume=0.5))
    await backlog.room()
    add(backlog, 0, b"a", b"b")
    writer = asyncio.create_task(backlog.room())
    await asyncio.sleep(0)
    assert not writer.done()
    backlog.release(1, 1)
    await writer


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=50)), max_size=60), st.integers(1, 600))
def test_backlog_loses_doubles_and_reorders_nothing(added: list[tuple[int, bytes]], max_bytes: int) -> None:
    """For any records and any size of batch: each queue comes out as it went in, and the counts return to zero."""
    backlog = Backlog(3)
    for queue, value in added:
        add(backlog, queue, value)
    for queue in range(3):
        out: list[bytes] = []
        more = True
        while more:
            records, size_bytes, more = backlog.take(queue, max_bytes)
            backlog.release(len(records), size_bytes)
            out += values(records)
        assert out == [value for of, value in added if of == queue]
    assert (backlog.records, backlog.bytes, backlog.waiting()) == (0, 0, [])
