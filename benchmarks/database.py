"""Canonical topic to PostgreSQL, one `mdstream worker timescale`, beside writers that have the rows in memory.

Each writes the same rows into the same tables, empty, on a server that is started for it alone. The role reads them
from the topic, decodes them and drops repeats; it is counted by its own page, and its rows are counted afterwards.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import psycopg

from benchmarks import canonical_trades
from benchmarks.deployment import PARTITIONS, Broker, Deployment, deployment
from benchmarks.measure import BenchmarkError, Rate, last_words, rate
from benchmarks.writers import TABLE
from mdstream import config
from mdstream.db import migrate
from mdstream.db.embedded import EmbeddedPostgres
from mdstream.testing import PROJECT, Processes, free_port

WRITER_LIMIT_S = 300.0
_COUNTER = re.compile(r"^mdstream_timescale_rows_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Database:
    """Rows that get into PostgreSQL: by the role from the topic, by one bare COPY, and by INSERTs."""

    role: Rate
    copy: Rate
    insert: Rate


async def measure(broker: Broker, *, count: int, folder: Path) -> Database:
    """Store `count` trades in each way.

    Raises BenchmarkError where a process ends, stands still, or a row is missing.
    """
    found: dict[str, Rate] = {}
    for writer, title in (("copy", "bare binary COPY"), ("insert", "multi-row INSERT")):
        with _server() as url:
            found[writer] = _writer(writer, url, count, folder)
            _verify(url, count, title)
        _tell(title, found[writer])
    async with deployment(broker, "database") as place:
        await canonical_trades.fill(place.bootstrap, place.trades, count=count, partitions=PARTITIONS)
        with _server() as url:
            role = await _role(place, url, count, folder)
            _verify(url, count, "mdstream worker timescale")
    _tell("mdstream worker timescale", role)
    return Database(role, found["copy"], found["insert"])


def _tell(title: str, found: Rate) -> None:
    click.echo(f"{title} ({found.frames:,.0f} rows): {found.per_second:,.0f} rows/s", err=True)


@contextmanager
def _server() -> Iterator[str]:
    """A server with our tables, empty; its address."""
    with EmbeddedPostgres(free_port()) as server:
        migrate.upgrade(config.load(database_url=server.url))
        yield server.url


def _writer(writer: str, url: str, count: int, folder: Path) -> Rate:
    with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
        process = processes.spawn([sys.executable, "-m", "benchmarks.writers", writer, url, count], name=writer)
        if process.wait(WRITER_LIMIT_S):
            raise BenchmarkError(f"the writer failed: {last_words(process.output())}")
        return Rate(**json.loads(process.output()))


async def _role(place: Deployment, url: str, count: int, folder: Path) -> Rate:
    port = free_port()

    async def stored() -> int:
        return await asyncio.to_thread(_stored, port)

    with Processes(folder, {**place.env, "MARKET_DATA_DATABASE_URL": url}) as processes:
        process = processes.mdstream("worker", "timescale", "--port", port)
        return await rate(process, stored, frames=count, outputs=count, title="mdstream worker timescale")


def _stored(port: int) -> int:
    """Rows that the worker has stored, as its page says; to count them in the database would slow it down."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = _COUNTER.search(answer.read().decode())
    except OSError:  # it is not up yet
        return 0
    return int(float(found[1])) if found else 0


def _verify(url: str, count: int, title: str) -> None:
    """Raises BenchmarkError where the table does not hold every trade once."""
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT count(*), count(DISTINCT seq) FROM {TABLE.name}").fetchone()
    if found != (count, count):
        raise BenchmarkError(f"{title}: rows and different rows are {found}, expected {count:,} of both")
