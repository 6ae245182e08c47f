"""Memory of one `mdstream senpai` over time: `python -m benchmarks.senpai_memory [MINUTES]`, ten by default.

200 symbols, 2,000 events a second, by JetStream. Prints the resident memory each half minute: it grows while the
windows fill, a minute, and should be flat from then on.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from processes import Processes, free_port
from servers import nats_server

from benchmarks.measure import rss_bytes
from benchmarks.report import MB, machine
from benchmarks.senpai import Load, stream
from benchmarks.senpai_nats import stored_live
from mdstream.config import load

LOAD, MINUTES, EVERY_S = Load(200, 2_000), 10, 30.0


async def feed(url: str, minutes: int, pid: int) -> None:
    """Store events as time passes, and print the memory of the process."""
    values = map(msgspec.json.decode, stream(LOAD, LOAD.per_s * 60 * minutes))
    begin_s, shown = time.monotonic(), 0
    async for written in stored_live(load(nats_url=url, use_jetstream=True), values, LOAD.per_s):
        if time.monotonic() - begin_s >= shown * EVERY_S:
            print(f"{shown * EVERY_S:5.0f} s  {rss_bytes(pid) / MB:6.1f} MB  {written:,} events", flush=True)
            shown += 1


def main() -> None:
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else MINUTES
    print(f"{machine()}\n")
    with nats_server() as server, tempfile.TemporaryDirectory() as folder:
        env = {"NATS_URL": server.url, "USE_JETSTREAM": "true"}
        with Processes(Path(folder), env) as processes:
            process = processes.mdstream("senpai", "--port", free_port())
            process.wait_for("shows features and signals")
            asyncio.run(feed(server.url, minutes, process.pid))
            assert process.running, process.output()


if __name__ == "__main__":
    main()
