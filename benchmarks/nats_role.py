"""Canonical topic to NATS by one nats role, compared with the limit: a bare publish loop of messages of the same size.

Both ways to publish: to core subscribers, and into a JetStream stream. Every message must arrive: the server confirms
it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import click
import nats
from processes import PROJECT, Processes, free_port
from servers import nats_server

from benchmarks import canonical_trades
from benchmarks.deployment import PARTITIONS, Broker, Deployment, deployment
from benchmarks.measure import BenchmarkError, Count, Rate, middle, rate, rate_reported_by
from mdstream.embedded.nats import EmbeddedNats

BARE_LIMIT_S = 300.0
ROUNDS = 3
CORE_TIMES = 4
"""Without acknowledgements it is several times as fast: more messages for a run of the same length."""

Kind = Literal["core", "jetstream"]


@dataclass(frozen=True)
class NatsRates:
    """The rates of the role and of a bare loop, for both ways to publish."""

    role: dict[Kind, Rate]
    bare: dict[Kind, Rate]


async def measure(broker: Broker, *, count: int, folder: Path) -> NatsRates:
    """Publish `count` trades by each into a stream, and CORE_TIMES as many with core NATS, ROUNDS times in turn.

    Raises BenchmarkError if a process ends or stalls, or a message does not arrive.
    """
    found = NatsRates({}, {})
    kinds: dict[Kind, int] = {"core": count * CORE_TIMES, "jetstream": count}
    for kind, messages in kinds.items():
        bare, role = [], []
        for _ in range(ROUNDS):
            with nats_server() as server:
                bare.append(await _bare(server, kind, messages, folder))
            _print_rate(f"bare {kind} loop", messages, bare[-1])
            async with deployment(broker, "nats") as place:
                await canonical_trades.fill(broker.bootstrap, place.trades, count=messages, partitions=PARTITIONS)
                role.append(await _role(place, kind, messages, folder))
            _print_rate(f"nats role, {kind}", messages, role[-1])
        found.bare[kind], found.role[kind] = middle(bare), middle(role)
    return found


def _print_rate(title: str, messages: int, found: Rate) -> None:
    click.echo(f"{title} ({messages:,} messages): {found.per_second:,.0f}/s", err=True)


async def _bare(server: EmbeddedNats, kind: Kind, count: int, folder: Path) -> Rate:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        command = [sys.executable, "-m", "benchmarks.bare_nats", kind, server.url, "BARE", count]
        loop = processes.spawn(command, name=f"bare-{kind}")
        found = rate_reported_by(loop, f"the bare {kind} loop", limit_s=BARE_LIMIT_S)
        if kind == "jetstream":
            await _verify(server, "BARE", count)
        return found


async def _role(place: Deployment, kind: Kind, count: int, folder: Path) -> Rate:
    monitor = free_port()
    with nats_server(settings=f'http: "127.0.0.1:{monitor}"') as server:
        env = {
            **place.env,
            "NATS_URL": server.url,
            "USE_JETSTREAM": str(kind == "jetstream"),
            "NATS_EVENTS": "trades",
            "NATS_STREAM_MB": "0",
        }
        with Processes(folder, env) as processes:
            process = processes.mdstream("worker", "nats", "--port", free_port())
            async with aiohttp.ClientSession(f"http://127.0.0.1:{monitor}") as session:
                arrived = _arrived(session, kind)
                found = await rate(process, arrived, frames=count, outputs=count, title=f"nats {kind}")
        if kind == "jetstream":
            await _verify(server, "MDSTREAM", count)
    return found


def _arrived(session: aiohttp.ClientSession, kind: Kind) -> Count:
    """Messages that the server reports: asking the worker would slow it down."""
    page, number = {"core": ("/varz", "in_msgs"), "jetstream": ("/jsz", "messages")}[kind]

    async def count() -> int:
        async with session.get(page) as answer:
            return int((await answer.json())[number])

    return count


async def _verify(server: EmbeddedNats, stream: str, count: int) -> None:
    """Raises BenchmarkError if the stream does not hold `count` messages."""
    async with await nats.connect(server.url) as client:
        found = (await client.jetstream().stream_info(stream)).state.messages
    if found != count:
        raise BenchmarkError(f"the stream {stream} holds {found:,} messages, expected {count:,}")
