"""The broker as a process, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable

from mdstream.broker.server import serving
from mdstream.broker.store import Store
from mdstream.transport import collector
from topics import Topic

DEFAULT_LIMIT_MIB = 512
MIB = 1 << 20


async def serve(
    port: int,
    *,
    advertise: int | None = None,
    limit_mib: int = DEFAULT_LIMIT_MIB,
    topics: Iterable[Topic] = (),
    partitions: int | None = None,
    started: Callable[[Store], None] | None = None,
) -> None:
    """Answer clients on 127.0.0.1 until SIGINT or SIGTERM.

    `topics` exist from the start; others are created with `partitions` partitions when a client asks for them.
    `advertise` is the port that clients are told, if it differs. `started` is called once clients are answered.
    Raises OSError if the port is not available.
    """
    store = Store(limit_mib * MIB, partitions=partitions)
    for topic in topics:
        store.create(topic.name, topic.partitions, topic.config)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with serving(store, port, advertise=advertise or port):
        collector.tune()
        if started is not None:
            started(store)
        await stopped.wait()
