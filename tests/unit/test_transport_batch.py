"""What an agent takes: consecutive records of one partition, handed over once, acknowledged as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mdstream.records import Partition, Record
from mdstream.transport.batch import Batch, of_all

RAW = Partition("md.raw.crypto", 3)


@dataclass
class Raw:
    """A record as the transport hands it over."""

    offset: int
    value: bytes | None = b"{}"
    key: bytes | None = b"BTCUSDT"
    timestamp: int = 1_767_625_200_125
    headers: tuple[tuple[str, bytes], ...] = ()


class Transport:
    """The transport's side of a batch: whether the partition is still ours, and what was reported."""

    def __init__(self, *, owned: bool = True) -> None:
        self.owned = owned
        self.taken = 0
        self.acknowledged: list[int] = []

    def take(self) -> bool:
        self.taken += 1
        return self.owned

    def batch(self, *offsets: int, next_offset: int | None = None) -> Batch:
        records: list[Record] = [Raw(offset) for offset in offsets]
        end = offsets[-1] + 1 if next_offset is None else next_offset
        return Batch(
            RAW,
            records,
            first=offsets[0],
            next_offset=end,
            on_take=self.take,
            acknowledge=self.acknowledged.append,
        )


def test_batch_hands_over_its_records_in_order() -> None:
    """`take` gives every record as it came; `first` and `next` bound their offsets."""
    batch = Transport().batch(7, 8, 9)
    assert [record.offset for record in batch.take()] == [7, 8, 9]
    assert (batch.partition, batch.first, batch.next) == (RAW, 7, 10)


def test_batch_ends_after_the_hole_where_compaction_left_one() -> None:
    """`next` may lie beyond the last record: the offsets in between hold nothing, and are committed with it."""
    transport = Transport()
    batch = transport.batch(7, 9, next_offset=20)
    batch.take()
    batch.acknowledge()
    assert transport.acknowledged == [20]


def test_batch_gives_its_records_away_once() -> None:
    """The records leave the batch when they are taken: whoever keeps the batch keeps no memory."""
    batch = Transport().batch(1, 2)
    assert len(batch.take()) == 2
    assert batch.take() == ()


def test_take_notifies_the_transport_before_the_agent_starts() -> None:
    """The next chunk may be put in the agent's queue as soon as this one left it."""
    transport = Transport()
    batch = transport.batch(1)
    assert transport.taken == 0
    batch.take()
    assert transport.taken == 1


def test_batch_of_a_partition_that_was_taken_away_gives_no_records() -> None:
    """After a rebalance the next owner reads them: what stood in our queue must not be processed as well."""
    batch = Transport(owned=False).batch(1, 2)
    assert batch.take() == ()


@pytest.mark.parametrize("times", [1, 3])
def test_acknowledgement_says_where_the_batch_ends(times: int) -> None:
    """An acknowledgement names the end of the batch, and a repeated one names the same."""
    transport = Transport()
    batch = transport.batch(4, 5)
    for _ in range(times):
        batch.acknowledge()
    assert transport.acknowledged == [6] * times


def test_a_chunk_that_several_agents_read_is_done_when_all_have_acknowledged_it() -> None:
    """Whatever order they come in; one that says it twice does not speak for another."""
    transport = Transport()
    first, second, third = of_all(3, transport.acknowledged.append)
    for acknowledge in (second, second, first, second):
        acknowledge(6)
    assert transport.acknowledged == []
    third(6)
    first(6)
    assert transport.acknowledged == [6]
