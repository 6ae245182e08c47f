"""Raw topic to canonical topic, one process each: mdstream's core worker compared with alternatives.

Every contender gets its own topics on the same broker, filled with the same frames, and runs alone. Its output is read
back: a rate counts only if every trade is there, once, with the right values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import click
from processes import PROJECT, Process, Processes, free_port

from benchmarks import environment, frames
from benchmarks.counter import counting
from benchmarks.deployment import PARTITIONS, Broker, Deployment, deployment
from benchmarks.measure import BenchmarkError, Rate, middle, rate

Kind = Literal["mdstream", "framework", "by hand"]
SLOW_SHARE = 20
"""A slow contender gets a twentieth of the frames: its rate is the same, and the run takes minutes."""


@dataclass(frozen=True)
class Contender:
    """`python -m` with `arguments` runs in .bench/ (not for mdstream), with `packages`; the first is shown."""

    name: str
    title: str
    kind: Kind
    packages: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    slow: bool = False


CONTENDERS = (
    Contender("mdstream", "mdstream, `faust -A mdstream worker`", "mdstream"),
    Contender(
        "faust",
        "Faust, one event at a time, `topic.send`",
        "framework",
        ("faust-streaming", "aiokafka"),
        ("benchmarks.peers.faust", "worker", "-l", "warn"),
        slow=True,
    ),
    Contender(
        "faststream",
        "FastStream, one event at a time",
        "framework",
        ("faststream", "aiokafka"),
        ("benchmarks.peers.faststream",),
        slow=True,
    ),
    Contender("quixstreams", "Quix Streams", "framework", ("quixstreams",), ("benchmarks.peers.quixstreams",)),
    Contender(
        "bytewax", "Bytewax", "framework", ("bytewax", "confluent-kafka"), ("bytewax.run", "benchmarks.peers.bytewax")
    ),
    Contender(
        "aiokafka", "aiokafka by hand, `send` per record", "by hand", ("aiokafka",), ("benchmarks.peers.aiokafka",)
    ),
    Contender("confluent", "confluent-kafka by hand", "by hand", ("confluent-kafka",), ("benchmarks.peers.confluent",)),
)
REFERENCE = "confluent"


@dataclass
class Row:
    """A contender's result: its rates, one per round, or the reason why there are none."""

    contender: Contender
    version: str
    rates: list[Rate] = field(default_factory=list)
    reason: str | None = None

    @property
    def rate(self) -> Rate | None:
        """The median by CPU; None if it could not be measured."""
        if self.reason is not None or not self.rates:
            return None
        return middle(self.rates)


def prepare(names: Sequence[str]) -> list[Row]:
    """A row for each contender, its packages installed; if that fails, the row has the reason."""
    pins = environment.pins(environment.REQUIREMENTS.read_text())
    rows = []
    for contender in CONTENDERS:
        if contender.name not in names:
            continue
        if contender.kind == "mdstream":
            rows.append(Row(contender, version("mdstream")))
            continue
        row = Row(contender, pins[contender.packages[0]])
        try:
            environment.install((*environment.WORK_NEEDS, *contender.packages))
        except BenchmarkError as error:
            row.reason = str(error)
        rows.append(row)
    return rows


async def measure(broker: Broker, rows: Sequence[Row], *, count: int, rounds: int, folder: Path) -> None:
    """Fill in the rates, `rounds` times one contender after the other.

    Raises BenchmarkError if mdstream itself fails; another one's failure is its row's reason.
    """
    for round_ in range(rounds):
        for row in rows:
            if row.reason is not None:
                continue
            contender = row.contender
            share = max(frames.REPEAT_EVERY, count // SLOW_SHARE) if contender.slow else count
            try:
                found = await _run(broker, contender, share, folder)
            except BenchmarkError as error:
                if contender.kind == "mdstream":
                    raise
                row.reason = str(error)
                click.echo(f"{contender.title}: {error}", err=True)
            else:
                row.rates.append(found)
                _print_rate(
                    contender.title, found, f"round {round_ + 1} of {rounds}" if rounds > 1 else f"{share:,} frames"
                )


def _print_rate(title: str, found: Rate, note: str) -> None:
    per_second, per_cpu_second = found.per_second, found.per_cpu_second
    click.echo(f"{title} ({note}): {per_second:,.0f} frames/s, {per_cpu_second:,.0f} per CPU-second", err=True)


async def _run(broker: Broker, contender: Contender, count: int, folder: Path) -> Rate:
    async with deployment(broker, contender.name) as place:
        await frames.fill(broker.bootstrap, place.raw, frames=count, partitions=PARTITIONS)
        wanted = frames.expected(count)
        async with counting(broker.bootstrap, place.trades, exact=broker.exact_ends) as written:
            with Processes(folder) as processes:
                process = _start(processes, contender, place, idempotent=broker.idempotent)
                found = await rate(process, written, frames=count, outputs=wanted.trades, title=contender.title)
        await frames.verify(broker.bootstrap, place.trades, wanted)
    return found


def _start(processes: Processes, contender: Contender, place: Deployment, *, idempotent: bool) -> Process:
    if contender.kind == "mdstream":
        return processes.worker("core", port=free_port(), env=place.env)
    command = [environment.PYTHON, "-m", *contender.arguments]
    return processes.spawn(command, name=contender.name, env=_job(place, idempotent=idempotent))


def _job(place: Deployment, *, idempotent: bool) -> Mapping[str, str]:
    """The variables that peers/work.py reads."""
    return {
        "PYTHONPATH": str(PROJECT),
        "BENCH_BROKERS": place.bootstrap,
        "BENCH_RAW": place.raw,
        "BENCH_TRADES": place.trades,
        "BENCH_GROUP": place.prefix,
        "BENCH_IDEMPOTENT": "1" if idempotent else "0",
    }
