"""Which partition a key goes to, and what a publisher says that was not started."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from mdstream.kafka.publisher import Partitioner, Publisher


@given(st.binary(min_size=1, max_size=40), st.integers(1, 64))
def test_partitioner_agrees_with_kafkas_default(key: bytes, partitions: int) -> None:
    """The same key goes to the partition that any Kafka client's default partitioner picks, remembered or not."""
    every = list(range(partitions))
    expected = DefaultPartitioner()(key, every, every)
    partitioner = Partitioner(partitions)
    assert [partitioner(key), partitioner(key)] == [expected, expected]


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536), (b"abc", 479470107)],
)
def test_partitioner_hashes_as_kafkas_own_tests_say(key: bytes, hashed: int) -> None:
    """The examples of murmur2 in Apache Kafka's UtilsTest: other languages' clients agree with these."""
    assert Partitioner(1000)(key) == (hashed & 0x7FFFFFFF) % 1000


def test_partitioner_remembers_a_bounded_number_of_keys() -> None:
    """Keys come from the wire: the memory of them has a limit, and forgetting changes no answer."""
    partitioner = Partitioner(8, max_keys=10)
    first = [partitioner(str(number).encode()) for number in range(100)]
    assert len(partitioner) <= 10
    assert [partitioner(str(number).encode()) for number in range(100)] == first


async def test_send_before_start_is_refused() -> None:
    """A publisher that is not connected keeps nothing back: it says so."""
    with pytest.raises(RuntimeError, match="before start"):
        await Publisher("127.0.0.1:1", client_id="test").send("t", 0, [(None, b"x", 0, [])])


async def test_stop_without_start_is_harmless() -> None:
    """A worker that failed while starting stops what it has."""
    await Publisher("127.0.0.1:1", client_id="test").stop()
