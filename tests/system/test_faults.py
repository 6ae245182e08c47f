"""The whole system while venues misbehave: gaps are repaired, bars come out right, and killed workers lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import isclose
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import Process, Processes, free_port, wait_until
from servers import on_apache_kafka, read_topic
from venues import Made, Venues

pytestmark = pytest.mark.system

SOAK_S = float(os.environ.get("MDSTREAM_TEST_SOAK_S", "120" if on_apache_kafka() else "30"))
"""For how long the core worker is killed again and again."""
SETTLE_S = 180
"""What is left when the venues stop may take so long on a busy machine: it only ends a hang."""
SHARED = "BTCUSDT"
"""The instrument that two venues feed."""

FeedKey = tuple[str, str]
"""Provider and symbol."""


class Stored(NamedTuple):
    """A published trade: an aggregate covers `fills` ids that end in `trade_id`."""

    provider: str
    symbol: str
    trade_id: str
    fills: int


def ids(trades: Iterable[Made | Stored]) -> dict[FeedKey, Counter[int]]:
    """How often each id is there: an aggregate covers all of its ids."""
    found: dict[FeedKey, Counter[int]] = defaultdict(Counter)
    for trade in trades:
        last = int(trade.trade_id)
        found[trade.provider, trade.symbol].update(range(last - trade.fills + 1, last + 1))
    return found


def stored(database: Path) -> list[Stored]:
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
        return [Stored(*row) for row in connection.execute("SELECT provider, symbol, trade_id, count FROM trades")]


async def read(env: dict[str, str], name: str) -> list[dict[str, Any]]:
    """The events of a topic, repeats left out."""
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.{name}")
    return [json.loads(value) for value in dict.fromkeys(record.value or b"{}" for record in records)]


def ingest(processes: Processes, venues: Venues, wanted: dict[str, str]) -> list[Process]:
    return [
        processes.mdstream("ingest", "--provider", name, "--symbols", symbols, "--port", free_port(), env=venues.urls)
        for name, symbols in wanted.items()
    ]


def connected(ingestor: Process) -> bool:
    """By the last line about it in its log."""
    states = [line for line in ingestor.output().splitlines() if "ingest.feed: " in line]
    return bool(states) and states[-1].endswith(" connected")


def settle(venues: Venues, ingestors: list[Process]) -> list[Made]:
    """Let the faults end, the feeds continue briefly, and the market stop; all that was made until then."""
    venues.ask("DELETE", "/faults")
    wait_until(lambda: all(map(connected, ingestors)), what="all feeds", limit_s=90)  # a pause is up to a minute
    time.sleep(4.0)  # the last gap is seen by what comes after it
    venues.pause()
    time.sleep(1.5)  # what is on the sockets, and on its way into the journal
    return venues.made()


# -- gaps


async def test_random_gaps_are_repaired_and_bars_are_those_of_an_undisturbed_run(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Every venue loses trades at random: all come back by repair, every gap closes, each bar is as if nothing had."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 600)
    own = {"MDSTREAM_MAX_GAPS_PER_MINUTE": "1e9", "MDSTREAM_BARS": "1s,5s"}
    worker = processes.worker("core", port=free_port(), env=own)
    repair = processes.mdstream("repair", "--port", free_port(), env=venues.urls)
    wanted = {"binance": "ETHUSDT", "okx": "LTCUSDT", "coinbase": "BTCUSD"}
    ingestors = ingest(processes, venues, wanted)
    wait_until(lambda: set(wanted) == {trade.provider for trade in venues.made()}, what="trades of every venue")
    for venue in wanted:
        venues.begin(venue, "drop", share=0.04, run=7)
    await asyncio.sleep(15)
    made = settle(venues, ingestors)
    expected = ids(made)
    settled: list[dict[str, Any]] = []
    for _ in range(SETTLE_S):
        settled = await read(env, "trades")
        if sum(trade.get("count", 1) for trade in settled) >= sum(found.total() for found in expected.values()):
            break
        await asyncio.sleep(1.0)
    got = ids(Stored(t["provider"], t["symbol"], t["trade_id"], t.get("count", 1)) for t in settled)
    assert got == expected
    assert all(process.running for process in (worker, repair, *ingestors))
    gaps = Counter(event["state"] for event in await read(env, "status") if event["type"] == "gap")
    assert gaps["open"]
    assert gaps == {"open": gaps["open"], "closed": gaps["open"]}
    assert sum(bool(trade.get("recovered")) for trade in settled) >= gaps["open"]
    await _check_bars(env, made)


async def _check_bars(env: dict[str, str], made: list[Made]) -> None:
    """The last revision of each bar against what the venues' own list of trades comes to."""
    latest: dict[tuple[str, str, int], dict[str, Any]] = {}
    for bar in await read(env, "bars"):
        key = bar["symbol"], bar["interval"], bar["ts_open"]
        if key not in latest or bar["revision"] > latest[key]["revision"]:
            latest[key] = bar
    assert {interval for _, interval, _ in latest} == {"1s", "5s"}
    assert any(bar["revision"] for bar in latest.values())
    for (symbol, interval, ts_open), bar in latest.items():
        within = [t for t in made if t.symbol == symbol and 0 <= t.ts_exchange - ts_open < int(interval[:-1]) * 10**9]
        within.sort(key=lambda trade: (trade.ts_exchange, int(trade.trade_id)))
        prices = [trade.price for trade in within]
        assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (prices[0], max(prices), min(prices), prices[-1])
        assert bar["trades"] == sum(trade.fills for trade in within)
        assert isclose(bar["volume"], sum(trade.size for trade in within), rel_tol=1e-9)


async def test_venue_that_restarts_its_ids_is_reported_and_none_of_its_trades_swallowed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Coinbase begins its trade ids again at 1, twice: `seq_reset` on md.status, every trade there once, no gap."""
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 300)
    worker = processes.worker("core", port=free_port())
    ingestors = ingest(processes, venues, {"coinbase": "BTCUSD"})
    wait_until(lambda: len(venues.made()) > 100, what="trades")
    for _ in range(2):
        venues.begin("coinbase", "sequence_reset")
        await asyncio.sleep(3)
    made = settle(venues, ingestors)
    key = Counter((trade.trade_id, trade.ts_exchange) for trade in made)
    got: Counter[tuple[str, int]] = Counter()
    for _ in range(SETTLE_S):
        got = Counter((trade["trade_id"], trade["ts_exchange"]) for trade in await read(env, "trades"))
        if got.total() >= key.total():
            break
        await asyncio.sleep(1.0)
    assert got == key, {"missing": list((key - got).items())[:9], "extra": list((got - key).items())[:9]}
    status = await read(env, "status")
    assert [event["symbol"] for event in status if event.get("state") == "seq_reset"] == ["BTCUSD", "BTCUSD"]
    assert not [event for event in status if event["type"] == "gap"]
    assert all(process.running for process in (worker, *ingestors))


# -- everything at once


@pytest.mark.timeout(SOAK_S + 600)
async def test_every_trade_is_stored_once_while_venues_fail_and_the_worker_is_killed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Drops, stalls, duplicates, reordering, garbage, delays and cut connections, repairs going on, and SIGKILL at any
    moment: what one venue feeds is in SQLite once, every id of it; what two feed is in SQLite as md.trades has it."""
    random_ = random.Random(4)
    venues = Venues.start(processes, tmp_path / "made.jsonl", "--rate", 1500, "--linger", 60)
    own = {"MDSTREAM_MAX_GAPS_PER_MINUTE": "1e9", "MDSTREAM_RECOVER_AFTER_S": "5"}
    port = free_port()
    worker = processes.worker("core", port=port, env=own)
    files = processes.worker("files", port=free_port())
    repair = processes.mdstream("repair", "--port", free_port(), env=venues.urls)
    alone = {("binance", "ETHUSDT"), ("binance", "SOLUSDT"), ("okx", "LTCUSDT"), ("coinbase", "BTCUSD")}
    wanted = {"binance": f"{SHARED},ETHUSDT,SOLUSDT", "okx": f"{SHARED},LTCUSDT", "coinbase": "BTCUSD"}
    ingestors = ingest(processes, venues, wanted)
    wait_until(lambda: alone <= {trade[:2] for trade in venues.made()}, what="trades of every instrument")
    for venue, kind, parameters in (
        ("binance", "drop", {"share": 0.003, "run": 5}),
        ("binance", "stall", {"every_s": 12, "for_s": 5}),
        ("binance", "duplicate", {"share": 0.05, "late_ms": 300}),
        ("okx", "reorder", {"window": 10, "ms": 150}),
        ("okx", "disconnect", {"every_s": 15}),
        ("okx", "delay", {"ms": 700, "every_s": 20, "for_s": 6}),
        ("coinbase", "malformed", {"share": 0.02}),
        ("coinbase", "drop", {"share": 0.003, "run": 20}),
    ):
        venues.begin(venue, kind, **parameters)

    until = time.monotonic() + SOAK_S
    kills = 0
    while time.monotonic() < until:
        await asyncio.sleep(random_.uniform(0.5, 9.0))
        worker.kill()
        worker = processes.worker("core", port=port, env=own)
        kills += 1
    expected = {key: found for key, found in ids(settle(venues, ingestors)).items() if key in alone}
    assert set(expected) == alone
    database = tmp_path / "data" / "market_data.db"

    def missing() -> int:
        got = ids(trade for trade in stored(database) if (trade.provider, trade.symbol) in alone)
        return sum((found - got[key]).total() for key, found in expected.items())

    with contextlib.suppress(AssertionError):  # then the counts below say where they are missing
        wait_until(lambda: not missing(), what="all in SQLite", limit_s=SETTLE_S, every_s=1.0)
    got = ids(trade for trade in stored(database) if (trade.provider, trade.symbol) in alone)
    assert {key: len(found - got[key]) for key, found in expected.items()} == dict.fromkeys(alone, 0), "lost"
    assert {key: len(got[key] - found) for key, found in expected.items()} == dict.fromkeys(alone, 0), (
        "twice, or invented"
    )
    assert all(process.running for process in (worker, files, repair, *ingestors))
    assert kills >= SOAK_S / 10

    published = [trade for trade in await read(env, "trades") if trade["symbol"] == SHARED]
    assert [trade["seq"] for trade in published] == list(range(published[0]["seq"], published[-1]["seq"] + 1))
    assert {trade["provider"] for trade in published} == {"binance", "okx"}
    want = Counter(Stored(t["provider"], SHARED, t["trade_id"], t.get("count", 1)) for t in published)
    assert Counter(trade for trade in stored(database) if trade.symbol == SHARED) == want
    assert set(want.values()) == {1}
