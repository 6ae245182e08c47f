"""aiokafka by hand: `getmany`, and `send` for each record without waiting for its acknowledgement."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.peers.work import Normaliser, job


async def main() -> None:
    task, normalise = job(), Normaliser()
    consumer = AIOKafkaConsumer(
        task.raw, bootstrap_servers=task.brokers, group_id=task.group, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=task.brokers,
        acks="all",
        enable_idempotence=task.idempotent,
        linger_ms=5,
        max_batch_size=1 << 18,
    )
    async with consumer, producer:
        while True:
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                for record in records:
                    value = normalise(record.value, record.headers)
                    if value is not None:
                        await producer.send(task.trades, value, key=record.key)


if __name__ == "__main__":
    asyncio.run(main())
