"""Canonical topic to PostgreSQL, one `mdstream worker timescale`, compared with writers that have the rows in memory.

Each writes the same rows into the same empty tables, on its own server. The role reads them from the topic, decodes
them and drops repeats; its rate comes from its own metrics, and its rows are counted afterwards.
"""

from __future__ import annotations

import asyncio
import re
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import click
import psycopg
from processes import PROJECT, Processes, free_port
from servers import embedded_postgres

from benchmarks import canonical_trades
from benchmarks.deployment import PARTITIONS, Broker, deployment
from benchmarks.measure import BenchmarkError, Rate, middle, rate, rate_reported_by
from benchmarks.writers import TABLE
from mdstream import config
from mdstream.db import migrate

ROUNDS = 3
WRITER_LIMIT_S = 300.0
_COUNTER = re.compile(r"^mdstream_timescale_rows_total (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Database:
    """Rates of rows into PostgreSQL: by the role from the topic, by one bare COPY, and by INSERTs."""

    role: Rate
    copy: Rate
    insert: Rate


async def measure(broker: Broker, *, count: int, folder: Path) -> Database:
    """Store `count` trades in each way; by COPY and by the role ROUNDS times, in turn.

    Raises BenchmarkError if a process ends or stalls, or a row is missing.
    """
    insert = _writer("insert", "multi-row INSERT", count, folder)
    copy, role = [], []
    for _ in range(ROUNDS):
        copy.append(_writer("copy", "bare binary COPY", count, folder))
        role.append(await _role(broker, "mdstream worker timescale", count, folder))
    wall = attrgetter("per_second")  # most of the work is the server's
    return Database(middle(role, wall), middle(copy, wall), insert)


def _print_rate(title: str, found: Rate) -> None:
    click.echo(f"{title} ({found.frames:,.0f} rows): {found.per_second:,.0f} rows/s", err=True)


@contextmanager
def _server() -> Iterator[str]:
    """The address of a server with our tables, empty."""
    with embedded_postgres() as server:
        migrate.upgrade(config.load(database_url=server.url))
        yield server.url


def _writer(writer: str, title: str, count: int, folder: Path) -> Rate:
    with _server() as url:
        with Processes(folder, {"PYTHONPATH": str(PROJECT)}) as processes:
            process = processes.spawn([sys.executable, "-m", "benchmarks.writers", writer, url, count], name=writer)
            found = rate_reported_by(process, f"the writer {writer}", limit_s=WRITER_LIMIT_S)
        _verify(url, count, title)
    _print_rate(title, found)
    return found


async def _role(broker: Broker, title: str, count: int, folder: Path) -> Rate:
    port = free_port()

    async def stored() -> int:
        return await asyncio.to_thread(_stored, port)

    async with deployment(broker, "database") as place:
        await canonical_trades.fill(place.bootstrap, place.trades, count=count, partitions=PARTITIONS)
        with _server() as url:
            with Processes(folder, {**place.env, "MARKET_DATA_DATABASE_URL": url}) as processes:
                process = processes.mdstream("worker", "timescale", "--port", port)
                found = await rate(process, stored, frames=count, outputs=count, title=title)
            _verify(url, count, title)
    _print_rate(title, found)
    return found


def _stored(port: int) -> int:
    """Rows that the worker has stored, from its metrics; counting them in the database would slow it down."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found = _COUNTER.search(answer.read().decode())
    except OSError:  # it is not up yet
        return 0
    return int(float(found[1])) if found else 0


def _verify(url: str, count: int, title: str) -> None:
    """Raises BenchmarkError if the table does not hold every trade once."""
    with psycopg.connect(url) as connection:
        found = connection.execute(f"SELECT count(*), count(DISTINCT seq) FROM {TABLE.name}").fetchone()
    if found != (count, count):
        raise BenchmarkError(f"{title}: rows and different rows are {found}, expected {count:,} of both")
