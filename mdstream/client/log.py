"""A topic's records from a start on, of all keys or some: what the client and `mdstream tail` read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection

from aiokafka import ConsumerRecord

from mdstream import kafka
from mdstream.client.start import Start, seek
from mdstream.config.cluster import Brokers
from mdstream.kafka import logs
from mdstream.kafka.publisher import Partitioner


async def read(
    bootstrap_servers: Brokers,
    topic: str,
    start: Start,
    *,
    keys: Collection[bytes] = (),
    follow: bool = True,
    places: dict[int, int] | None = None,
) -> AsyncGenerator[list[ConsumerRecord[bytes, bytes]], None]:
    """Chunks of records of one partition each, in order; of the given keys' partitions alone, if there are keys.

    The first chunk is empty and comes when the reader is at its start; `places` then has the offset of each partition.
    Without `follow` it ends at the present end; else it goes on, with an empty chunk now and then while nothing comes,
    and waits for a broker that goes away. Raises BrokerError if none answers at the start, or there is no such topic;
    SettingsError if the start is not in the log.
    """
    partitions = await kafka.partitions_of(bootstrap_servers, topic)
    if keys:
        partition_of = Partitioner(len(partitions))
        partitions = [partitions[number] for number in sorted({partition_of(key) for key in keys})]
    async with kafka.reader(bootstrap_servers) as consumer:
        consumer.assign(partitions)
        await seek(consumer, partitions, start, next(iter(keys), None))
        if places is not None:
            places |= {tp.partition: await consumer.position(tp) for tp in partitions}
        yield []
        async for records in logs.read_whole(consumer, partitions, follow=follow):
            chosen = [record for record in records if record.key in keys] if keys else records
            if chosen or not records:
                yield chosen
