"""The backlog: each queue in order, diverted at its limits, nothing lost on the way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.ingest.backlog import RECORD_OVERHEAD_BYTES, Backlog
from mdstream.ingest.overflow import Limits
from mdstream.records import ProducerRecord

ENDLESS = 1 << 40


def record(value: bytes) -> ProducerRecord:
    return b"BTCUSDT", value, 0, [("p", b"okx"), ("t", b""), ("k", b"trade"), ("via", b"ws")]


def add(backlog: Backlog, queue: int, *values: bytes) -> None:
    for value in values:
        backlog.add(queue, record(value), len(value))


def values(records: Sequence[ProducerRecord]) -> list[bytes]:
    return [value or b"" for _, value, _, _ in records]


def test_backlog_gives_a_queue_back_in_order() -> None:
    """Queues do not mix."""
    backlog = Backlog(2)
    add(backlog, 0, b"a", b"b")
    add(backlog, 1, b"x")
    add(backlog, 0, b"c")
    assert backlog.waiting() == [0, 1]
    records, more = backlog.take(0, ENDLESS)
    assert (values(records), more) == ([b"a", b"b", b"c"], False)
    assert backlog.waiting() == [1]


def test_backlog_gives_no_more_than_a_batch_holds() -> None:
    """The rest stays, in order; overhead counts."""
    backlog = Backlog(1)
    add(backlog, 0, *[b"%04d" % i for i in range(10)])
    max_bytes = 3 * (4 + RECORD_OVERHEAD_BYTES)
    taken = []
    while backlog.waiting():
        records, more = backlog.take(0, max_bytes)
        assert sum(map(len, values(records))) + len(records) * RECORD_OVERHEAD_BYTES <= max_bytes
        assert more == bool(backlog.waiting())
        taken.append(values(records))
    assert [len(batch) for batch in taken] == [3, 3, 3, 1]
    assert [value for batch in taken for value in batch] == [b"%04d" % i for i in range(10)]


def test_backlog_gives_a_record_alone_that_no_batch_has_room_for() -> None:
    """A frame of megabytes goes by itself rather than never."""
    backlog = Backlog(1)
    add(backlog, 0, b"x" * 1_000, b"y")
    records, more = backlog.take(0, 500)
    assert (len(records), more) == (1, True)


def test_backlog_counts_records_until_kafka_has_them() -> None:
    """What is taken is still in memory."""
    backlog = Backlog(1)
    add(backlog, 0, b"abc")
    backlog.take(0, ENDLESS)
    assert (backlog.records, backlog.bytes, backlog.empty.is_set()) == (1, 3, False)
    assert backlog.release(0) == (1, 3)
    assert (backlog.records, backlog.bytes, backlog.empty.is_set()) == (0, 0, True)


@pytest.mark.parametrize("limits", [Limits(records=3), Limits(bytes=10)])
def test_backlog_is_diverted_at_either_limit(limits: Limits) -> None:
    """Of records, or of bytes: what it holds goes to the overflow, and so does what follows."""
    backlog = Backlog(2, limits)
    add(backlog, 0, b"1234", b"56")
    add(backlog, 1, b"78")
    assert backlog.diverted == (limits.records == 3)
    add(backlog, 1, b"9012")
    assert backlog.diverted
    assert [(w.queue, w.record[1]) for w in backlog.overflow.first(ENDLESS)] == [
        (0, b"1234"),
        (0, b"56"),
        (1, b"78"),
        (1, b"9012"),
    ]
    assert (backlog.records, backlog.bytes, backlog.waiting(), backlog.times_diverted) == (0, 0, [], 1)


def test_backlog_keeps_what_is_under_way_and_copies_it() -> None:
    """A delivery that may succeed is awaited; if the process dies with it, the copy is in front of the rest."""
    backlog = Backlog(1)
    add(backlog, 0, b"a", b"b")
    backlog.take(0, ENDLESS)
    add(backlog, 0, b"c")
    backlog.divert()
    assert values([w.record for w in backlog.overflow.first(ENDLESS)]) == [b"a", b"b", b"c"]
    assert (backlog.records, backlog.taken(0), backlog.queued(0)) == (2, 2, 0)
    backlog.release(0)
    assert backlog.empty.is_set()


def test_backlog_takes_what_comes_back_while_it_is_diverted() -> None:
    """New records still go to the overflow, behind it."""
    backlog = Backlog(1)
    backlog.divert()
    backlog.put(0, record(b"old"), 3)
    add(backlog, 0, b"new")
    assert values(backlog.take(0, ENDLESS)[0]) == [b"old"]
    assert values([w.record for w in backlog.overflow.first(ENDLESS)]) == [b"new"]


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
            records, more = backlog.take(queue, max_bytes)
            backlog.release(queue)
            out += values(records)
        assert out == [value for of, value in added if of == queue]
    assert (backlog.records, backlog.bytes, backlog.waiting()) == (0, 0, [])
