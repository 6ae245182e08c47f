"""mdstream/transport/recovery.py: a table knows the partition of a key before the broker knows its changelog topic."""

from __future__ import annotations

import faust
import pytest

from mdstream.kafka.publisher import Partitioner
from mdstream.transport.recovery import CacheTable


@pytest.mark.parametrize("key", [b"BTCUSDT", b"ETHUSDT", b"", b"\xff"])
def test_partition_of_a_key_is_computed_without_a_broker(key: bytes) -> None:
    """And it is the one that the canonical topics have: Kafka's default partitioner."""
    table = CacheTable(faust.App("t", broker="kafka://127.0.0.1:1"), name="latest", partitions=4)
    assert table.partition_for_key(key) == Partitioner(4)(key)
