"""What is asked of a broker besides records, on the embedded one and on Apache Kafka alike."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import get_args

import pytest
from processes import free_port
from servers import chosen_broker, read_topic

from mdstream import config, kafka
from mdstream.config.cluster import Cluster, Compression
from mdstream.errors import BrokerError
from mdstream.kafka.publisher import BATCH_BYTES, Publisher
from mdstream.records import ProducerRecord
from topics import MAX_FRAME_BYTES, Topic, Topics

pytestmark = pytest.mark.system


@pytest.fixture
def topics(prefix: str) -> Topics:
    return Topics(config.load(topic_prefix=prefix, partitions=4))


@pytest.fixture
async def raw(broker: str, topics: Topics) -> Topic:
    """A raw topic that is there."""
    await kafka.create_topics(broker, topics)
    return topics.raw["crypto"]


async def publish(broker: str, topic: str, partition: int, *sendings: list[ProducerRecord]) -> None:
    publisher = Publisher(broker, client_id="test")
    await publisher.start()
    try:
        for records in sendings:
            await asyncio.gather(*await publisher.send(topic, partition, records))
    finally:
        await publisher.stop()


def records(count: int, *, size: int = 10) -> list[ProducerRecord]:
    return [(b"k", f"{number}:".encode().ljust(size, b"."), 0, [("p", b"binance")]) for number in range(count)]


# -- topics


async def test_create_topics_makes_what_is_missing_and_nothing_twice(broker: str, topics: Topics) -> None:
    """The names of the new ones come back; a second call finds them all there."""
    assert await kafka.create_topics(broker, topics) == [topic.name for topic in topics]
    assert await kafka.create_topics(broker, topics) == []
    counts = await kafka.partition_counts(broker)
    assert {topic.name: counts[topic.name] for topic in topics} == {topic.name: 4 for topic in topics}


async def test_create_topics_by_several_workers_at_once_is_harmless(broker: str, topics: Topics) -> None:
    """Workers start together: who comes second finds the topic there, and that is no error."""
    await asyncio.gather(*(kafka.create_topics(broker, topics) for _ in range(3)))
    assert await kafka.create_topics(broker, topics) == []


async def test_topic_with_another_partition_count_is_refused_with_what_to_set(broker: str, raw: Topic) -> None:
    """Keys would go to other partitions than their state is in: say so before anything is written."""
    with pytest.raises(BrokerError) as caught:
        await kafka.create_topics(broker, [replace(raw, partitions=6)])
    assert str(caught.value) == (
        f"topic {raw.name} has 4 partitions, the settings say 6: set MDSTREAM_PARTITIONS=4 or recreate the topics"
    )


async def test_missing_topic_is_named_with_what_to_run(broker: str, prefix: str) -> None:
    """Reading a topic that is not there is a mistake in the prefix, or the topics were never created."""
    with pytest.raises(BrokerError, match=rf"there is no topic {prefix}\.trades at {broker}: run `mdstream topics"):
        await kafka.partitions_of(broker, f"{prefix}.trades")
    assert f"{prefix}.trades" not in await kafka.partition_counts(broker)


# -- a broker that is not there


async def _create(address: str) -> None:
    await kafka.create_topics(address, Topics(config.load()))


async def _read(address: str) -> None:
    async with kafka.reader(address):
        pass


async def _publish(address: str) -> None:
    await Publisher(address, client_id="test").start()


@pytest.mark.parametrize("ask", [_create, _read, _publish, kafka.partition_counts, kafka.has_idempotent_producer])
async def test_unreachable_broker_is_named_with_what_to_do(ask: Callable[[str], Awaitable[object]]) -> None:
    """Whatever is asked of it: the address, and how to get a broker."""
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(BrokerError) as caught:
        await ask(address)
    message = str(caught.value)
    assert message.startswith(f"no Kafka broker answers at {address} (")
    assert message.endswith("start one with `mdstream broker` or `make up`, or set KAFKA_BOOTSTRAP_SERVERS")


# -- what it can do


async def test_broker_that_comes_back_is_asked_until_it_is_in_its_cluster_again(topics: Topics) -> None:
    """Apache Kafka shuts out a broker that was silent for 9 s: resumed, it answers, and briefly names no broker."""
    with chosen_broker() as own:
        await kafka.create_topics(own.bootstrap, topics)
        assert own.pid is not None
        os.kill(own.pid, signal.SIGSTOP)
        await asyncio.sleep(12)
        os.kill(own.pid, signal.SIGCONT)
        ends = time.monotonic() + 4
        while time.monotonic() < ends:
            assert await kafka.create_topics(own.bootstrap, topics) == []


async def test_idempotent_producer_is_used_where_the_broker_has_one(broker: str) -> None:
    """Both brokers hand out producer ids: known by asking."""
    assert await kafka.has_idempotent_producer(broker)


# -- reading to the end


@pytest.mark.parametrize("batches", [(1,), (1000,), (3, 700, 2), (1,) * 20], ids=str)
async def test_read_to_end_reads_everything_though_the_reported_end_is_short(
    broker: str, raw: Topic, batches: tuple[int, ...]
) -> None:
    """A broker may report the last batch's first offset plus one as the end: what is behind it counts too."""
    await publish(broker, raw.name, 1, *(records(count) for count in batches))
    read = await read_topic(broker, raw.name, quiet_s=0.5)
    assert [(record.partition, record.offset) for record in read] == [(1, offset) for offset in range(sum(batches))]


async def test_read_to_end_of_an_empty_topic_ends(broker: str, raw: Topic) -> None:
    """Nothing there is an answer, not a wait."""
    assert await read_topic(broker, raw.name, quiet_s=0.5) == []


async def test_read_to_end_of_no_partition_reads_none(broker: str, raw: Topic) -> None:
    """No partitions are not taken for all of them."""
    await publish(broker, raw.name, 0, records(3))
    async with kafka.reader(broker) as consumer:
        consumer.assign(await kafka.partitions_of(broker, raw.name))
        assert [chunk async for chunk in kafka.read_to_end(consumer, [])] == []


async def test_read_to_end_goes_on_from_the_position(broker: str, raw: Topic) -> None:
    """It reads from the consumer's position."""
    await publish(broker, raw.name, 2, records(50))
    partitions = await kafka.partitions_of(broker, raw.name)
    async with kafka.reader(broker) as consumer:
        consumer.assign(partitions)
        consumer.seek(partitions[2], 48)
        read = [record.offset async for chunk in kafka.read_to_end(consumer, partitions[2:3]) for record in chunk]
    assert read == [48, 49]


# -- publishing


async def test_records_keep_their_order_over_several_batches(broker: str, raw: Topic) -> None:
    """More than a batch holds: the batches follow one another, and nothing is altered."""
    sent = records(3000, size=BATCH_BYTES // 1000)
    await publish(broker, raw.name, 3, sent)
    read = await read_topic(broker, raw.name, quiet_s=0.5)
    assert [(record.key, record.value, list(record.headers)) for record in read] == [
        (key, value, headers) for key, value, _, headers in sent
    ]


@pytest.mark.parametrize("compression", get_args(Compression))
async def test_compressed_records_come_back_as_they_were(
    broker: str, topics: Topics, raw: Topic, compression: Compression
) -> None:
    """The broker keeps batches as they came: MDSTREAM_COMPRESSION is between writer and readers."""
    sent = records(2000, size=300)
    cluster = Cluster(broker, compression=compression)
    publisher = Publisher(cluster, client_id="test")
    await publisher.start()
    assert publisher._producer is not None
    assert (publisher._producer._compression_type or "none") == compression
    await asyncio.gather(*await publisher.send(raw.name, 3, sent))
    await publisher.stop()
    read = await read_topic(cluster, raw.name, quiet_s=0.5)
    assert [(record.value, list(record.headers)) for record in read] == [
        (value, headers) for _, value, _, headers in sent
    ]


async def test_record_larger_than_a_batch_goes_out_alone(broker: str, raw: Topic) -> None:
    """The largest frame that is carried, between two small ones."""
    large: ProducerRecord = (b"k", b"x" * MAX_FRAME_BYTES, 0, [])
    await publish(broker, raw.name, 0, [*records(1), large, *records(1)])
    async with kafka.reader(broker, max_partition_fetch_bytes=MAX_FRAME_BYTES) as consumer:
        partitions = await kafka.partitions_of(broker, raw.name)
        consumer.assign(partitions)
        read = [len(r.value) async for chunk in kafka.read_to_end(consumer, partitions) for r in chunk]
    assert read == [10, MAX_FRAME_BYTES, 10]
