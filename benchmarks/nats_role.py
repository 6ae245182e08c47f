"""Canonical topic to NATS by one nats role, beside a bare publish loop with messages of the same size: the limit.

Both ways to publish: to whoever listens, and into a JetStream stream. Every message has to have arrived: the server
confirms it.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import click
import nats

from benchmarks import canonical_trades
from benchmarks.deployment import PARTITIONS, Broker, Deployment, deployment
from benchmarks.measure import BenchmarkError, Count, Rate, last_words, rate
from mdstream.sinks.nats_server import EmbeddedNats
from mdstream.testing import PROJECT, Processes, free_port, nats_server

BARE_LIMIT_S = 300.0
_PUBLISHED = re.compile(r"^mdstream_nats_published_total (\S+)$", re.MULTILINE)

Kind = Literal["core", "jetstream"]


@dataclass(frozen=True)
class NatsRates:
    """What the role publishes, and what a bare loop does, one way and the other."""

    role: dict[Kind, Rate]
    bare: dict[Kind, Rate]


async def measure(broker: Broker, *, count: int, folder: Path) -> NatsRates:
    """Publish `count` trades by each of the four.

    Raises BenchmarkError where a process ends, stands still, or a message does not arrive.
    """
    found = NatsRates({}, {})
    kinds: tuple[Kind, ...] = ("core", "jetstream")
    for kind in kinds:
        with nats_server() as server:
            found.bare[kind] = await _bare(server, kind, count, folder)
            click.echo(f"bare {kind} loop ({count:,} messages): {found.bare[kind].per_second:,.0f}/s", err=True)
        async with deployment(broker, "nats") as place:
            await canonical_trades.fill(broker.bootstrap, place.trades, count=count, partitions=PARTITIONS)
            with nats_server() as server:
                found.role[kind] = await _role(place, server, kind, count, folder)
            click.echo(f"nats role, {kind} ({count:,} messages): {found.role[kind].per_second:,.0f}/s", err=True)
    return found


async def _bare(server: EmbeddedNats, kind: Kind, count: int, folder: Path) -> Rate:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        command = [sys.executable, "-m", "benchmarks.bare_nats", kind, server.url, "BARE", count]
        loop = processes.spawn(command, name=f"bare-{kind}")
        if loop.wait(BARE_LIMIT_S):
            raise BenchmarkError(f"the bare {kind} loop failed: {last_words(loop.output())}")
        if kind == "jetstream":
            await _verify(server, "BARE", count)
        return Rate(**json.loads(loop.output()))


async def _role(place: Deployment, server: EmbeddedNats, kind: Kind, count: int, folder: Path) -> Rate:
    port = free_port()
    env = {
        **place.env,
        "NATS_URL": server.url,
        "USE_JETSTREAM": str(kind == "jetstream"),
        "NATS_EVENTS": "trades",
        "NATS_STREAM_MB": "0",
    }
    with Processes(folder, env) as processes:
        process = processes.worker("nats", port=port)
        async with aiohttp.ClientSession() as session:
            found = await rate(process, _published(session, port), frames=count, outputs=count, title=f"nats {kind}")
    if kind == "jetstream":
        await _verify(server, "MDSTREAM", count)
    return found


def _published(session: aiohttp.ClientSession, port: int) -> Count:
    """What the worker says that it has published: that the server has it was confirmed."""

    async def count() -> int:
        try:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                found = _PUBLISHED.search(await answer.text())
        except aiohttp.ClientError:  # it is still starting
            return 0
        return int(float(found[1])) if found else 0

    return count


async def _verify(server: EmbeddedNats, stream: str, count: int) -> None:
    """Raises BenchmarkError where the stream does not hold `count` messages."""
    async with await nats.connect(server.url) as client:
        found = (await client.jetstream().stream_info(stream)).state.messages
    if found != count:
        raise BenchmarkError(f"the stream {stream} holds {found:,} messages, expected {count:,}")
