"""The limit of any ingestor in Python: `python -m benchmarks.bare URL FRAMES` receives frames and does nothing else.

Prints one JSON line: the frames received after the warm-up, and the wall and CPU seconds they took.
"""

from __future__ import annotations

import json
import sys
import time

import uvloop
from websockets.asyncio.client import connect

from benchmarks.measure import WARM_UP
from mdstream.ingest.links.link import MAX_SIZE_BYTES
from mdstream.ingest.links.websocket import FRAMES_AHEAD


async def main(url: str, total: int) -> None:
    # The ingestor's own settings and event loop.
    async with connect(url, compression=None, max_size=MAX_SIZE_BYTES, max_queue=FRAMES_AHEAD) as socket:
        recv, warm_up = socket.recv, int(total * WARM_UP)
        for _ in range(warm_up):
            await recv(decode=False)
        began, used = time.perf_counter(), time.process_time()
        for _ in range(total - warm_up):
            await recv(decode=False)
        wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    print(json.dumps({"frames": total - warm_up, "wall_s": wall_s, "cpu_s": cpu_s}))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
