"""Record batches for tests of the embedded broker."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords


def batch(keys: list[bytes], *, producer: tuple[int, int, int] = (-1, -1, -1), time_ms: int = 1) -> bytes:
    """A record for each key, as a producer (id, epoch, sequence) sends them."""
    number, epoch, sequence = producer
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=number,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=1 << 20,
    )
    for offset, key in enumerate(keys):
        builder.append(offset, time_ms + offset, key, b"value", [])
    return bytes(builder.build())


def offsets(content: bytes) -> list[int]:
    """The offsets of the records that a client sees in an answer."""
    found, memory = [], MemoryRecords(content)
    while memory.has_next():
        made = memory.next_batch()
        assert made.validate_crc()
        found += [record.offset for record in made]
    return found
