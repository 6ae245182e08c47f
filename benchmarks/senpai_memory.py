"""Memory of one `mdstream senpai` over time: `python -m benchmarks.senpai_memory [MINUTES]`, ten by default.

200 symbols, 2,000 events a second, by JetStream. Prints the resident memory each half minute: it grows while the
windows fill, a minute, and should be flat from then on.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from processes import Processes, free_port
from servers import nats_server
from sink_builders import TRADES, Rec

from benchmarks.report import MB, machine
from benchmarks.senpai import SECOND_NS, T0, Load, stream
from benchmarks.senpai_nats import TICK_S, moved
from mdstream.config import load
from mdstream.sinks.base import decode
from mdstream.sinks.nats import JetStreamSink

LOAD, MINUTES, EVERY_S = Load(200, 2_000), 10, 30.0


def rss_bytes(pid: int) -> int:
    """Resident memory of a process."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


async def feed(url: str, minutes: int, pid: int) -> None:
    """Store events as time passes, and print the memory of the process."""
    sink, written, begin_ns = JetStreamSink(load(nats_url=url, use_jetstream=True)), 0, time.time_ns()
    values: Iterator[bytes] = stream(LOAD, LOAD.per_s * 60 * minutes)
    shown = 0
    while written < LOAD.per_s * 60 * minutes:
        passed_ns = time.time_ns() - begin_ns
        due = min(LOAD.per_s * 60 * minutes, passed_ns * LOAD.per_s // SECOND_NS)
        some = [moved(msgspec.json.decode(next(values)), begin_ns - T0) for _ in range(written, due)]
        if some:
            await sink.write([decode(TRADES, [Rec(written + n, value) for n, value in enumerate(some)])[0]])
        written = due
        if passed_ns >= shown * EVERY_S * SECOND_NS:
            print(f"{shown * EVERY_S:5.0f} s  {rss_bytes(pid) / MB:6.1f} MB  {written:,} events", flush=True)
            shown += 1
        await asyncio.sleep(TICK_S)
    await sink.close()


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
