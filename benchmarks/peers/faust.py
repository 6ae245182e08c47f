"""Faust used plainly: an agent that takes one event at a time and sends its result with `topic.send`.

Its limits for joining a group are shortened, as its defaults wait for a minute; they do not touch its speed.
"""

from __future__ import annotations

from typing import Any

import faust

from benchmarks.peers.work import Normaliser, job

task = job()
app = faust.App(
    task.group,
    broker=f"kafka://{task.brokers}",
    store="memory://",
    web_enabled=False,
    topic_disable_leader=True,
    consumer_auto_offset_reset="earliest",
    producer_acks=-1,
    producer_linger=0.005,
    producer_max_batch_size=1 << 18,
    broker_session_timeout=6.0,
    broker_rebalance_timeout=6.0,
    broker_heartbeat_interval=2.0,
)
raw = app.topic(task.raw, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")
trades = app.topic(task.trades, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw")


@app.agent(raw)
async def canonical(frames: Any) -> None:
    normalise = Normaliser()
    async for event in frames.events():
        value = normalise(event.value, event.headers)
        if value is not None:
            await trades.send(key=event.key, value=value)


if __name__ == "__main__":
    app.main()
