"""Bytewax: a dataflow of its Kafka input, one `filter_map` and its Kafka output. It has no consumer groups."""

from __future__ import annotations

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow

from benchmarks.peers.work import Normaliser, job

RECORDS_AT_ONCE = 5_000

task = job()
normalise = Normaliser()


def canonical(frame: KafkaSourceMessage[bytes, bytes]) -> KafkaSinkMessage[bytes, bytes] | None:
    value = normalise(frame.value, frame.headers)
    return None if value is None else KafkaSinkMessage(frame.key, value)


flow = Dataflow("canonical")
frames = kop.input("raw", flow, brokers=[task.brokers], topics=[task.raw], batch_size=RECORDS_AT_ONCE)
trades = op.filter_map("canonical", frames.oks, canonical)
kop.output(
    "trades",
    trades,
    brokers=[task.brokers],
    topic=task.trades,
    add_config={
        "acks": "all",
        "enable.idempotence": str(task.idempotent).lower(),
        "linger.ms": "5",
        "queue.buffering.max.messages": "1000000",
    },
)
