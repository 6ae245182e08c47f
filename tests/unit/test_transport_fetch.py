"""Chunks out of aiokafka's fetch buffer: whole Kafka batches, in order, without a hole."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from mdstream.transport import fetch
from mdstream.transport.fetch import Chunk

TP = TopicPartition("t.raw.crypto", 3)


class Position:
    """A partition's state as aiokafka keeps it: fetchable, at `position`."""

    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def consumed_to(self, position: int) -> None:
        self.position = position


class Assignment:
    """An assignment of the one partition."""

    active = True

    def __init__(self, position: int) -> None:
        self.state = Position(position)

    def state_value(self, _tp: TopicPartition) -> Position:
        return self.state


CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def log(*batches: tuple[int, int], codec: int = 0) -> bytes:
    """What a broker answers: batches of `count` records from offset `base`."""
    written = b""
    for base, count in batches:
        builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, 0, 1 << 20)
        for i in range(count):
            builder.append(i, 1_700_000_000_000, b"key", b"%d" % (base + i), [("p", b"binance")])
        written += base.to_bytes(8, "big") + bytes(builder.build())[8:]
    return written


def result(answer: bytes, *, position: int) -> FetchResult:
    records = PartitionRecords(TP, MemoryRecords(answer), [], position, None, None, True, READ_UNCOMMITTED)
    return FetchResult(TP, assignment=Assignment(position), partition_records=records, backoff=0)


def taken(of: FetchResult) -> tuple[list[int], int, int]:
    """Offsets, first and next of the next chunk."""
    chunk = fetch._take(TP, of)
    assert isinstance(chunk, Chunk)
    return [record.offset for record in chunk.records], chunk.first, chunk.next


@pytest.mark.parametrize("compression", CODECS)
def test_compressed_batches_give_the_same_chunk(compression: str) -> None:
    """However they were written; several batches, as each is compressed by itself."""
    written = log((10, 400), (410, 2), codec=CODECS[compression])
    assert (len(written) < len(log((10, 400), (410, 2)))) is (compression != "none")
    chunk = fetch._take(TP, result(written, position=10))
    assert chunk is not None
    assert [(r.offset, r.key, r.value, list(r.headers)) for r in chunk.records] == [
        (10 + i, b"key", b"%d" % (10 + i), [("p", b"binance")]) for i in range(402)
    ]


def test_chunk_holds_whole_batches_with_everything_a_record_has() -> None:
    """Key, value, headers and time come as they were written."""
    chunk = fetch._take(TP, result(log((10, 2), (12, 1)), position=10))
    assert chunk is not None
    first: Any = chunk.records[0]
    assert (first.key, first.value, list(first.headers)) == (b"key", b"10", [("p", b"binance")])
    assert ([r.offset for r in chunk.records], chunk.first, chunk.next) == ([10, 11, 12], 10, 13)


def test_chunk_ends_at_the_batch_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk is closed at CHUNK_RECORDS, at a batch's end; the rest stays in the buffer."""
    monkeypatch.setattr(fetch, "CHUNK_RECORDS", 3)
    of = result(log((0, 2), (2, 2), (4, 1)), position=0)
    assert taken(of) == ([0, 1, 2, 3], 0, 4)
    assert of.has_more()
    assert taken(of) == ([4], 4, 5)
    assert not of.has_more()


def test_chunk_leaves_out_what_lies_before_the_position() -> None:
    """A batch is fetched whole: its records before the position asked for were processed already."""
    assert taken(result(log((0, 5)), position=3)) == ([3, 4], 3, 5)


def test_chunk_ends_before_a_hole() -> None:
    """
    offsets   0..4  |hole|  8..9     the chunk ends at 5, where reading goes on: the broker is asked again
    """
    of = result(log((0, 5), (8, 2)), position=0)
    assert taken(of) == ([0, 1, 2, 3, 4], 0, 5)
    assert not of.has_more()


def test_chunk_says_where_it_begins_behind_a_hole() -> None:
    """With nothing before the hole, `first` is not the position asked for: the reader sees what is missing."""
    chunk = fetch._take(TP, result(log((8, 2)), position=5))
    assert chunk is not None
    assert ([record.offset for record in chunk.records], chunk.requested, chunk.first, chunk.next) == ([8, 9], 5, 8, 10)


def test_chunk_is_none_when_the_position_moved() -> None:
    """What was fetched for another position is not handed over."""
    of = result(log((0, 5)), position=0)
    of._assignment.state.position = 3
    assert fetch._take(TP, of) is None


def test_chunk_refuses_a_batch_with_a_wrong_checksum() -> None:
    """A byte that changed on the way is an error that names the place, not data."""
    answer = bytearray(log((0, 3)))
    answer[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="offset 0"):
        fetch._take(TP, result(bytes(answer), position=0))
