"""FastStream on aiokafka: a subscriber that takes one message at a time and publishes without waiting for each ack.

Parser and decoder are our own: FastStream's take every header for UTF-8 text, which the receive time is not, and would
parse the frame as JSON a first time. Its logger is off: it writes two lines a message.
"""

from __future__ import annotations

import asyncio

from aiokafka import ConsumerRecord
from faststream import FastStream
from faststream.kafka import KafkaBroker
from faststream.kafka import KafkaMessage as Message
from faststream.kafka.message import FAKE_CONSUMER

from benchmarks.peers.work import Normaliser, job

task = job()
broker = KafkaBroker(
    task.brokers,
    acks="all",
    enable_idempotence=task.idempotent,
    linger_ms=5,
    max_batch_size=1 << 18,
    logger=None,
    apply_types=False,
)
publisher = broker.publisher(task.trades)
normalise = Normaliser()


async def parse(record: ConsumerRecord[bytes, bytes]) -> Message:
    return Message(body=record.value, raw_message=record, consumer=FAKE_CONSUMER)


async def decode(message: Message) -> ConsumerRecord[bytes, bytes]:
    return message.raw_message


@broker.subscriber(task.raw, group_id=task.group, auto_offset_reset="earliest", parser=parse, decoder=decode)
async def canonical(record: ConsumerRecord[bytes, bytes]) -> None:
    value = normalise(record.value, record.headers)
    if value is not None:
        await publisher.publish(value, key=record.key, no_confirm=True)


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
