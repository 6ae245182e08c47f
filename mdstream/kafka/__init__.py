"""Kafka access outside Faust: broker checks, topics, reading logs, writing records."""

from mdstream.kafka.broker import (
    admin,
    create_topics,
    delete_topics,
    has_idempotent_producer,
    lost,
    no_topic,
    partition_counts,
    partitions_of,
    unreachable,
)
from mdstream.kafka.reading import LogEnd, read_to_end, read_until, reader

__all__ = [
    "LogEnd",
    "admin",
    "create_topics",
    "delete_topics",
    "has_idempotent_producer",
    "lost",
    "no_topic",
    "partition_counts",
    "partitions_of",
    "read_to_end",
    "read_until",
    "reader",
    "unreachable",
]
