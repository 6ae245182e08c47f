"""The limit of any NATS publisher in Python: `python -m benchmarks.bare_nats core|jetstream URL STREAM MESSAGES`.

Publishes messages as large as canonical trades with nats-py, and does nothing else: `publish` in a loop, or
`publish_async` with as many acknowledgements outstanding as the client allows. Prints one JSON line: the messages after
the warm-up, and the wall and CPU seconds that they took.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import nats
import uvloop
from nats.js.api import StreamConfig

from benchmarks.canonical_trades import message
from benchmarks.measure import WARM_UP

FLUSH_LIMIT_S = 60


async def main(kind: str, url: str, stream: str, total: int) -> None:
    messages = [(f"{stream}.trade.{trade.symbol}", value) for trade, value in map(message, range(total))]
    client = await nats.connect(url)
    js = client.jetstream()
    if kind == "jetstream":
        await js.add_stream(StreamConfig(name=stream, subjects=[f"{stream}.>"]))
    publish: Any = client.publish if kind == "core" else js.publish_async
    warm_up = int(total * WARM_UP)
    for subject, value in messages[:warm_up]:
        await publish(subject, value)
    began, used = time.perf_counter(), time.process_time()
    for subject, value in messages[warm_up:]:
        await publish(subject, value)
    await js.publish_async_completed()
    await client.flush(FLUSH_LIMIT_S)
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    await client.close()
    print(json.dumps({"frames": total - warm_up, "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
