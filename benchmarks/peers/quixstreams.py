"""Quix Streams: a streaming dataframe, one `apply` and one `filter` between two topics."""

from __future__ import annotations

from typing import Any

from quixstreams import Application

from benchmarks.peers.work import Normaliser, job


def main() -> None:
    task, normalise = job(), Normaliser()
    app = Application(
        broker_address=task.brokers,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        auto_create_topics=False,
        producer_extra_config={"acks": "all", "enable.idempotence": task.idempotent, "linger.ms": 5},
    )
    raw = app.topic(task.raw, key_deserializer="bytes", value_deserializer="bytes")
    trades = app.topic(task.trades, key_serializer="bytes", value_serializer="bytes")

    def canonical(frame: bytes, _key: bytes, _timestamp_ms: int, headers: Any) -> bytes | None:
        return normalise(frame, headers)

    frames = app.dataframe(raw)
    frames = frames.apply(canonical, metadata=True)
    frames = frames.filter(lambda trade: trade is not None)
    frames.to_topic(trades)
    app.run()


if __name__ == "__main__":
    main()
