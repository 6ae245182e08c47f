"""confluent-kafka by hand: librdkafka does the work, `consume` hands over thousands of records at a time."""

from __future__ import annotations

from confluent_kafka import Consumer, KafkaException, Producer

from benchmarks.peers.work import Normaliser, job

RECORDS_AT_ONCE = 5_000


def main() -> None:
    task, normalise = job(), Normaliser()
    consumer = Consumer(
        {"bootstrap.servers": task.brokers, "group.id": task.group, "auto.offset.reset": "earliest"},
    )
    consumer.subscribe([task.raw])
    producer = Producer(
        {
            "bootstrap.servers": task.brokers,
            "acks": "all",
            "enable.idempotence": task.idempotent,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    while True:
        for message in consumer.consume(RECORDS_AT_ONCE, 1.0):
            if message.error() is not None:
                raise KafkaException(message.error())
            value = normalise(message.value(), message.headers())
            if value is not None:
                producer.produce(task.trades, value, key=message.key())
                producer.poll(0)


if __name__ == "__main__":
    main()
