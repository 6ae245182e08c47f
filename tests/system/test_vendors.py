"""Vendors with a login: an ingestor with and without their keys, against the simulated ones."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from contextlib import closing
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from processes import Process, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from venues import Made, Venues

from mdstream.bars.rules import SECOND_NS
from mdstream.ticks import TradeTick
from mdstream.venues.alpaca.simulated import CORRECTED, ONE_OF
from mdstream.venues.providers import provider

pytestmark = pytest.mark.system

KEYS = {
    "ALPACA_KEY": "key-of-ours",
    "ALPACA_SECRET": "secret-of-ours",
    "POLYGON_API_KEY": "polygon-of-ours",
    "COINAPI_KEY": "coinapi-of-ours",
}


@pytest.fixture
def venues(processes: Processes, tmp_path: Path) -> Venues:
    served = ("--venues", "binance,coinbase,alpaca,alpaca_crypto,massive,coinapi")
    return Venues.start(processes, tmp_path / "journal.jsonl", *served, "--rate", 2000)


class Ingestor:
    """`mdstream ingest` of a provider's default symbols."""

    def __init__(self, processes: Processes, name: str, env: dict[str, str]) -> None:
        self.port = free_port()
        self.process: Process = processes.mdstream("ingest", "--provider", name, "--port", self.port, env=env)

    def get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [({}, "set ALPACA_KEY and ALPACA_SECRET"), ({**KEYS, "ALPACA_DRY_RUN": "true"}, "unset ALPACA_DRY_RUN")],
)
async def test_an_ingestor_without_keys_runs_dry_and_says_what_to_set(
    processes: Processes, env: dict[str, str], prefix: str, settings: dict[str, str], remedy: str
) -> None:
    """In the log, /health and `mdstream status`: it lives and has heartbeats, but is not ready."""
    ingestor = Ingestor(processes, "alpaca", {**env, **settings})
    ingestor.process.wait_for(f"alpaca disconnected: runs dry: {remedy}")
    wait_until(lambda: ingestor.get("/health")[1]["feeds"]["alpaca"]["dry"], what="the state")
    assert ingestor.get("/ready")[0] == 503
    assert f"alpaca: runs dry: {remedy}" in ingestor.get("/ready")[1]["problems"]
    assert ingestor.get("/live")[0] == 200

    def feeds() -> list[Any]:
        found: list[Any] = json.loads(run_mdstream("status", "--json", env=env).stdout)["feeds"]
        return found

    wait_until(lambda: any(feed["heartbeat_ns"] for feed in feeds()), what="a heartbeat")
    [feed] = feeds()
    assert (feed["provider"], feed["market"], feed["state"]) == ("alpaca", "equities", "disconnected")
    assert feed["reason"] == f"runs dry: {remedy}"
    assert ingestor.process.stop() == 0
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.equities")
    assert {dict(record.headers)["k"] for record in records} == {b"heartbeat", b"status"}


async def test_frames_of_several_instruments_become_records_of_one(
    processes: Processes, env: dict[str, str], prefix: str, venues: Venues
) -> None:
    """Each part is keyed by its instrument and understood alone; no record of a frame is lost, and none is doubled."""
    ingestors = [Ingestor(processes, name, {**env, **KEYS, **venues.urls}) for name in ("alpaca", "massive")]
    for ingestor in ingestors:
        ingestor.process.wait_for(" connected")
    wait_until(lambda: len(venues.made()) > 2_000, what="trades")
    venues.pause()
    assert [ingestor.process.stop() for ingestor in ingestors] == [0, 0]
    records = await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.raw.equities")
    trades, parts = set(), set()
    for record in records:
        headers = dict(record.headers)
        if headers["k"] != b"trade":
            continue
        venue = provider(headers["p"].decode())
        for tick in venue.decode(record.value):
            assert isinstance(tick, TradeTick)
            assert tick.symbol.encode() == record.key
            if tick.correction is not None:
                continue
            trades.add((venue.name, tick.symbol, tick.trade_id, tick.price, tick.size, tick.ts_exchange))
        parts.add((venue.name, headers["f"]))
    assert trades == {(m.provider, m.symbol, m.trade_id, m.price, m.size, m.ts_exchange) for m in venues.stop()}
    trade_records = [record for record in records if dict(record.headers)["k"] == b"trade"]
    assert len(parts) < len(trade_records), "no frame was of several instruments"


async def test_the_core_publishes_every_trade_once_and_the_kept_books(
    processes: Processes, env: dict[str, str], prefix: str, venues: Venues
) -> None:
    """Trades of stocks have no side and ids of several parts; the books of crypto are kept from changes."""
    worker = processes.worker("core", port=free_port())
    ingestors = [Ingestor(processes, name, {**env, **KEYS, **venues.urls}) for name in ("alpaca", "alpaca_crypto")]
    wait_until(lambda: len(venues.made()) > 2_000, what="trades", limit_s=60)
    venues.pause()
    assert [ingestor.process.stop() for ingestor in ingestors] == [0, 0]
    made = {(m.symbol, m.trade_id): m for m in venues.stop()}
    published: list[Any] = []
    while len(published) < len(made):
        read = [json.loads(r.value) for r in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.trades")]
        published = [trade for trade in read if "correction" not in trade]
    assert {(t["symbol"], t["trade_id"]) for t in published} == made.keys()
    assert {t["side"] for t in published if t["provider"] == "alpaca"} == {None}
    books = [json.loads(r.value) for r in await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.books")]
    assert {book["symbol"] for book in books} == {"BTCUSD", "ETHUSD"}
    assert await read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}.dead") == []
    audit = run_mdstream("audit", "--journal", venues.journal, "--to", "now", env=env)
    assert audit.returncode == 0, audit.stdout
    assert worker.stop() == 0


def in_force(made: list[Made]) -> list[Made]:
    """The trades as the venue corrected them at last, in the order of a bar: by time, then by id."""
    found = []
    for one in sorted(made, key=lambda one: one.ts_exchange):
        exchange, number, day = one.trade_id.split("-")
        if int(number) % ONE_OF == 0:
            found.append(one._replace(trade_id=f"{exchange}-{CORRECTED + int(number)}-{day}", size=one.size + 1))
        elif int(number) % ONE_OF != ONE_OF // 2:
            found.append(one)
    return sorted(found, key=lambda one: (one.ts_exchange, len(one.trade_id), one.trade_id))


def seconds(trades: list[Made]) -> set[tuple[Any, ...]]:
    """The bars of a second: symbol, opening, open, high, low, close, volume, trades."""
    bars: dict[tuple[str, int], list[Made]] = {}
    for one in trades:
        bars.setdefault((one.symbol, one.ts_exchange // SECOND_NS * SECOND_NS), []).append(one)
    made = set()
    for key, found in bars.items():
        prices = [one.price for one in found]
        volume = fsum(one.size for one in found)
        made.add((*key, prices[0], max(prices), min(prices), prices[-1], volume, len(found)))
    return made


def test_corrected_and_cancelled_trades_are_applied_in_sqlite_and_bars(
    processes: Processes, env: dict[str, str], venues: Venues
) -> None:
    """Though both workers are killed on the way: a correction that comes again is the same row, with the same bars.
    The audit applies them, too."""
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"

    def stored(query: str) -> list[Any]:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return database.execute(query).fetchall()

    def corrections() -> int:
        if not path.exists() or not stored("SELECT 1 FROM sqlite_master WHERE name = 'trades'"):
            return 0
        [(count,)] = stored("SELECT count(*) FROM trades WHERE correction IS NOT NULL")
        return int(count)

    workers = [processes.worker(role, port=free_port()) for role in ("core", "files")]
    ingestor = Ingestor(processes, "alpaca", {**env, **KEYS, **venues.urls})
    wait_until(lambda: corrections() > 50, what="corrections", limit_s=90)
    for worker in workers:
        worker.kill()
    workers = [processes.worker(role, port=free_port()) for role in ("core", "files")]
    wait_until(lambda: len(venues.made()) > 4_000, what="trades", limit_s=60)
    venues.pause()
    assert ingestor.process.stop() == 0
    made = venues.stop()
    expected = in_force(made)

    def applied() -> set[tuple[Any, ...]]:
        return set(stored("SELECT symbol, trade_id, size, ts_traded FROM trades_in_force"))

    def bars() -> set[tuple[Any, ...]]:
        columns = "symbol, ts_open, open, high, low, close, volume, trades"
        return set(stored(f"SELECT {columns} FROM bars WHERE interval = '1s' AND trades > 0"))

    wait_until(
        lambda: applied() == {(one.symbol, one.trade_id, one.size, one.ts_exchange) for one in expected},
        what="the trades in force", limit_s=90,
    )  # fmt: skip
    wait_until(lambda: bars() == seconds(expected), what="the bars of the trades in force", limit_s=90)
    assert stored("SELECT count(*) FROM trades WHERE correction IS NULL") == [(len(made),)]
    assert [worker.stop() for worker in workers] == [0, 0]
    audit = run_mdstream("audit", "--journal", venues.journal, "--to", "now", env=env)
    assert audit.returncode == 0, audit.stdout


def test_refused_keys_end_the_ingestor_with_what_to_set(
    processes: Processes, env: dict[str, str], venues: Venues
) -> None:
    """Status 2, one line, and no key in it."""
    refused = {"ALPACA_SECRET": "wrong", "POLYGON_API_KEY": "wrong", "COINAPI_KEY": "wrong"}
    for name, message in (
        ("alpaca", "alpaca refuses us: the login was refused, auth failed (402): set ALPACA_KEY and ALPACA_SECRET"),
        ("massive", "massive refuses us: the login was refused, authentication failed: set MASSIVE_API_KEY"),
        ("coinapi", "coinapi refuses us: the login was refused, Invalid API key: set COINAPI_KEY"),
    ):
        ingestor = Ingestor(processes, name, {**env, **KEYS, **refused, **venues.urls})
        assert ingestor.process.wait() == 2
        assert message in ingestor.process.output()
        assert KEYS["ALPACA_KEY"] not in ingestor.process.output()


def test_a_plan_without_the_feed_is_told_and_final(processes: Processes, env: dict[str, str], venues: Venues) -> None:
    """The connection stays open and mute: nobody would notice."""
    url = {"ALPACA_WS_URL": venues.urls["ALPACA_WS_URL"].replace("iex", "sip"), "ALPACA_KEY": "FREE-1"}
    ingestor = Ingestor(processes, "alpaca", {**env, **KEYS, **url})
    assert ingestor.process.wait() == 2
    assert "insufficient subscription (409): the plan does not include this feed" in ingestor.process.output()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("alpaca", "connection limit exceeded (406): another connection uses these keys"),
        ("massive", "max_connections: Maximum number of websocket connections exceeded."),
    ],
)
def test_a_second_connection_is_told_and_takes_over_when_the_first_has_ended(
    processes: Processes, env: dict[str, str], venues: Venues, name: str, message: str
) -> None:
    """It is tried again, after a pause that only data resets."""
    first = Ingestor(processes, name, {**env, **KEYS, **venues.urls})
    first.process.wait_for(f"{name} connected")
    second = Ingestor(processes, name, {**env, **KEYS, **venues.urls})
    second.process.wait_for(message)
    first.process.stop()
    wait_until(lambda: second.get("/ready")[0] == 200, what="the second's connection", limit_s=120)
