"""Before the first measurement: warm up the broker, and find out what it can do.

A Java broker that has just started is several times slower than after some seconds of work; without a warm-up the first
contender would pay for it.
"""

from __future__ import annotations

from dataclasses import replace

from benchmarks import frames
from benchmarks.counter import counting
from benchmarks.deployment import PARTITIONS, Broker, deployment
from mdstream import kafka

ROUNDS = 3
FRAMES = 200_000


async def warm_up(broker: Broker) -> Broker:
    """Write and read for some seconds. Returns the broker with its abilities as found.

    Raises BrokerError if none answers.
    """
    exact = True
    async with deployment(broker, "warmup") as place:
        for done in range(1, ROUNDS + 1):
            await frames.fill(broker.bootstrap, place.raw, frames=FRAMES, partitions=PARTITIONS)
            async with counting(broker.bootstrap, place.raw, exact=True) as reported:
                exact = await reported() == done * FRAMES and exact
            read = 0
            async for _ in frames.records(broker.bootstrap, place.raw):
                read += 1
    return replace(broker, idempotent=await kafka.has_idempotent_producer(broker.bootstrap), exact_ends=exact)
