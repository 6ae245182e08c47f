"""`mdstream api`: how long a page of the history takes at a steady rate, and how many alerts a second it accepts.

The requests come at their times, whatever became of those before: one that had to wait counts with its waiting. They
are measured alone, and beside a client that reads a large answer slowly and one that asks for the longest span.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import aiohttp
import click
import psycopg
from processes import Processes, free_port
from servers import embedded_postgres, read_topic

from benchmarks.deployment import Broker, deployment
from benchmarks.measure import BenchmarkError, Rate, cpu_s
from mdstream import config
from mdstream.api.history import MAX_ROWS
from mdstream.db import migrate

SYMBOLS, TICKS, TICK_DAYS, BAR_DAYS = 50, 1_000_000, 31, 7
PATHS = ("/v1/bars", "/v1/trades")
PAGE_ROWS = 100
PER_S, SECONDS = 200, 20
ALERTS, SENDERS = 10_000, 50
SECRET = "a-secret-of-the-benchmark"
DAY_NS = 86_400_000_000_000
SLOW_BYTES, SLOW_S = 4096, 1.0
"""What the slow client reads at a time, and how long it then waits; the other one waits as long between its answers."""
FILL = (
    """INSERT INTO market_data_ticks
       SELECT 'binance', 'S' || n % %(symbols)s, to_timestamp(%(now)s - %(days)s * 86400.0 * n / %(rows)s), 'binance',
       n::text, 100 + n % 97, 1, 'buy', %(rows)s - n, NULL, 5 FROM generate_series(1, %(rows)s) n""",
    """INSERT INTO market_data_ohlcv
       SELECT 'mdstream', 'S' || n % %(symbols)s, '1m', to_timestamp(%(now)s / 60 * 60 - n / %(symbols)s * 60),
       100, 102, 99, 101, 10, 1000, 3, 0 FROM generate_series(1, %(symbols)s * %(bar_days)s * 1440) n""",
)


@dataclass(frozen=True)
class Latency:
    """Of an answer, from when its request was due to its last byte."""

    p50_s: float
    p99_s: float


@dataclass(frozen=True)
class Api:
    """Latencies by path, alone and beside others; accepted alerts; and the machine's load (1 minute) before.

    `page_cpu_s`: the process's CPU time of a page, alone.
    """

    alone: dict[str, Latency]
    page_cpu_s: float
    beside: dict[str, Latency]
    webhook: Rate
    load: float


async def measure(broker: Broker, *, folder: Path) -> Api:
    """Raises BenchmarkError if a request is refused, or an accepted alert is not in the log."""
    port = free_port()
    async with deployment(broker, "api") as place:
        with embedded_postgres() as server:
            await asyncio.to_thread(_fill, server.url)
            env = {
                **place.env,
                "MARKET_DATA_DATABASE_URL": server.url,
                "TRADINGVIEW_HMAC_SECRET": SECRET,
                "MDSTREAM_API_REQUESTS_PER_S": "100000",
            }
            with Processes(folder, env) as processes:
                process = processes.mdstream("api", "--port", port)
                process.wait_for("/docs shows what there is")
                async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
                    load, used_s = os.getloadavg()[0], cpu_s(process.pid)
                    alone = await _latencies(session, "alone")
                    page_cpu_s = (cpu_s(process.pid) - used_s) / (PER_S * SECONDS)
                    async with _others(session, port):
                        beside = await _latencies(session, "beside others")
                    webhook = await _accepted(session, process.pid)
        found = len(await read_topic(place.bootstrap, place.raw))
    if found != ALERTS:
        raise BenchmarkError(f"mdstream api accepted {ALERTS:,} alerts, the log has {found:,}")
    return Api(alone, page_cpu_s, beside, webhook, load)


def _fill(url: str) -> None:
    """Our tables with ticks and bars that end now."""
    migrate.upgrade(config.load(database_url=url))
    values = {"symbols": SYMBOLS, "rows": TICKS, "days": TICK_DAYS, "bar_days": BAR_DAYS, "now": int(time.time())}
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in FILL:
            connection.execute(statement.replace("n % ", "n %% ").encode(), values)
        connection.execute("VACUUM ANALYZE")


# ------------------------------------------------------------------------------------------------------------- history


async def _latencies(session: aiohttp.ClientSession, title: str) -> dict[str, Latency]:
    """Ask for pages of all paths in turn, PER_S a second: a random symbol, from a random time of the days of bars."""
    seeded, began = random.Random(1), time.perf_counter()
    asked: list[asyncio.Task[float]] = []
    try:
        for number in range(PER_S * SECONDS):
            due = began + number / PER_S
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            from_ns = time.time_ns() - seeded.randrange(DAY_NS, BAR_DAYS * DAY_NS)
            query = _query(seeded.randrange(SYMBOLS), from_ns, from_ns + DAY_NS, PAGE_ROWS)
            asked.append(asyncio.create_task(_took_s(session, PATHS[number % len(PATHS)] + query, due)))
        took_s = await asyncio.gather(*asked)
    finally:  # those under way end with a run that fails or is interrupted
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    found = {path: latency(took_s[at :: len(PATHS)]) for at, path in enumerate(PATHS)}
    for path, took in found.items():
        click.echo(f"{path}, {title}: p50 {took.p50_s * 1000:.1f} ms, p99 {took.p99_s * 1000:.1f} ms", err=True)
    return found


def latency(took_s: Sequence[float]) -> Latency:
    """The median, and what one in a hundred exceeds."""
    ordered = sorted(took_s)
    return Latency(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100])


def _query(symbol: int, from_ns: int, to_ns: int, rows: int) -> str:
    return f"?symbol=S{symbol}&from={from_ns}&to={to_ns}&limit={rows}"


async def _took_s(session: aiohttp.ClientSession, path: str, due: float) -> float:
    async with session.get(path) as answer:
        body = await answer.read()
        if answer.status != 200:
            raise BenchmarkError(f"{path} got {answer.status}: {body[:200].decode(errors='replace')}")
    return time.perf_counter() - due


# -------------------------------------------------------------------------------------------------------------- others


@asynccontextmanager
async def _others(session: aiohttp.ClientSession, port: int) -> AsyncIterator[None]:
    """A slow client and one that asks for the longest span, while the block runs. Raises what either ended with."""
    others = [asyncio.create_task(_read_slowly(port)), asyncio.create_task(_ask_for_most(session))]
    try:
        yield
        for each in others:
            if each.done():
                each.result()
    finally:
        for each in others:
            each.cancel()
        await asyncio.wait(others)


def _most(symbol: int) -> str:
    """The largest page of the longest span of trades: all the days that there are."""
    now_ns = time.time_ns()
    return "/v1/trades" + _query(symbol, now_ns - TICK_DAYS * DAY_NS, now_ns, MAX_ROWS)


async def _ask_for_most(session: aiohttp.ClientSession) -> None:
    while True:
        await _took_s(session, _most(1), time.perf_counter())
        await asyncio.sleep(SLOW_S)


async def _read_slowly(port: int) -> None:
    """A large answer, SLOW_BYTES at a time; again when the server has ended it."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=SLOW_BYTES)
        with closing(writer):
            writer.write(f"GET {_most(2)} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
            try:
                while await reader.read(SLOW_BYTES):  # noqa: ASYNC110  it is slow on purpose
                    await asyncio.sleep(SLOW_S)
            except ConnectionError:
                continue


# ------------------------------------------------------------------------------------------------------------- webhook


async def _accepted(session: aiohttp.ClientSession, pid: int) -> Rate:
    """Signed alerts from SENDERS at a time, each sent when the one before was accepted."""
    began, used_s = time.perf_counter(), cpu_s(pid)
    await asyncio.gather(*(_send(session, sender) for sender in range(SENDERS)))
    found = Rate(ALERTS, time.perf_counter() - began, cpu_s(pid) - used_s)
    click.echo(f"webhook: {found.per_second:,.0f} accepted alerts/s", err=True)
    return found


async def _send(session: aiohttp.ClientSession, sender: int) -> None:
    for number in range(sender, ALERTS, SENDERS):
        alert = {"symbol": f"S{number % SYMBOLS}USDT", "price": 1.5, "timenow": time.time_ns() // 1_000_000}
        body = json.dumps(alert | {"id": f"a{number}"}).encode()
        headers = {"X-Signature": hmac.new(SECRET.encode(), body, sha256).hexdigest()}
        async with session.post("/webhooks/tradingview", data=body, headers=headers) as answer:
            if answer.status != 202:
                raise BenchmarkError(f"an alert got {answer.status}: {(await answer.text())[:200]}")
