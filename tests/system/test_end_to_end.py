"""Everything together, as processes: venues, ingestors, two core workers, every sink; and workers that die."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import databases
import nats_streams
import pytest
from processes import Process, Processes, free_port, run_mdstream, wait_until
from servers import embedded_postgres, nats_server

pytestmark = pytest.mark.system

RATE = 5000
KILLS = int(os.environ.get("MDSTREAM_TEST_KILLS", "3"))
"""How often a worker dies. For a soak: MDSTREAM_TEST_KILLS=20 make test-kafka TESTS=tests/system/test_end_to_end.py"""
SYMBOLS = {
    "binance": "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,ADAUSDT,DOGEUSDT",
    "okx": "BTCUSDT,ETHUSDT,SOLUSDT,LTCUSDT",
    "coinbase": "BTCUSD,ETHUSD,SOLUSD",
}
Key = tuple[str, str, str]


@pytest.fixture
def env(env: dict[str, str]) -> dict[str, str]:
    """Eight partitions, as in production: two workers share them. All sources are merged: every trade has to arrive."""
    return env | {"MDSTREAM_PARTITIONS": "8", "MDSTREAM_POLICY": "merge"}


@pytest.fixture
def servers(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A database and a NATS server, and the variables that say where: in `env`, too."""
    with embedded_postgres() as postgres, nats_server() as nats:
        found = {
            "MARKET_DATA_DATABASE_URL": databases.fresh(postgres),
            "NATS_URL": nats.url,
            "USE_JETSTREAM": "true",
        }
        env |= found
        yield found


def start_venues(processes: Processes, journal: Path, rate: int) -> tuple[Process, dict[str, str], str]:
    """The simulator, the variables that point the ingestors at it, and its control endpoint."""
    simulator = processes.mdstream("simulate", "--port", 0, "--rate", rate, "--journal", journal)
    simulator.wait_for("export COINBASE_WS_URL=")
    exports = [line.removeprefix("export ") for line in simulator.output().splitlines() if line.startswith("export ")]
    urls = dict(line.split("=", 1) for line in exports)
    return simulator, urls, urls["BINANCE_WS_URL"].replace("ws://", "http://").partition("/binance")[0]


def post(url: str) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10):
        pass


def healthy(port: int) -> Callable[[], bool]:
    """Whether the worker at `port` says that it owns partitions."""

    def check() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                return bool(json.load(answer)["status"] == "ok")
        except OSError:
            return False

    return check


def journalled(journal: Path) -> set[Key]:
    """The trades that the simulator sent."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return {(row["provider"], row["symbol"], row["trade_id"]) for row in rows}


def stored(database: Path) -> list[Key]:
    """The trades in SQLite, as many times as they are there; none while it is not."""
    if not database.exists():
        return []
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
        return list(connection.execute("SELECT provider, symbol, trade_id FROM trades"))


def in_postgres(servers: dict[str, str]) -> int:
    """Ticks in the database."""
    return int(databases.ask(servers["MARKET_DATA_DATABASE_URL"], "SELECT count(*) FROM market_data_ticks")[0][0])


def in_stream(servers: dict[str, str]) -> int:
    """Trades in the stream on NATS."""
    requested = {"subjects_filter": "md.events.trade.>"}
    found = asyncio.run(nats_streams.api(servers["NATS_URL"], "STREAM.INFO.MDSTREAM", requested))
    return sum(found["state"]["subjects"].values())


def audit(env: dict[str, str], journal: Path) -> dict[str, Any]:
    """What `mdstream audit` says; it must agree hop by hop."""
    done = run_mdstream("audit", "--journal", journal, "--to", "now", "--json", env=env, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    message: dict[str, Any] = json.loads(done.stdout)
    return message


@pytest.mark.timeout(600 + 30 * KILLS)
def test_every_sink_holds_every_trade_once_when_workers_are_killed(
    servers: dict[str, str], processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """At 5,000 frames/s a core worker dies again and again: no trade is lost, none stored twice, in no sink."""
    journal, database = tmp_path / "sent.jsonl", tmp_path / "data" / "market_data.db"
    simulator, urls, control = start_venues(processes, journal, RATE)
    ports = [free_port(), free_port()]
    workers = [processes.worker("core", port=port) for port in ports]
    sinks = [processes.worker(role, port=free_port()) for role in ("files", "timescale", "nats")]
    ingestors = [
        processes.mdstream("ingest", "--provider", name, "--symbols", symbols, "--port", free_port(), env=urls)
        for name, symbols in SYMBOLS.items()
    ]
    for port in ports:
        wait_until(healthy(port), what=f"the worker at {port} to own partitions")
    wait_until(lambda: stored(database) and in_postgres(servers) and in_stream(servers), what="trades")

    for kill in range(KILLS):
        time.sleep((0.3, 2.0, 5.0)[kill % 3])  # from before the first commit of the new owner to well after it
        victim = kill % 2
        workers[victim].kill()
        time.sleep((4.0, 0.0, 9.0)[kill % 3])  # back before, during and after the others' takeover
        workers[victim] = processes.worker("core", port=ports[victim])
        wait_until(healthy(ports[victim]), what=f"the worker at {ports[victim]} to be back")

    post(f"{control}/pause")
    time.sleep(1.0)  # what is on the sockets
    for ingestor in ingestors:
        assert ingestor.stop() == 0, ingestor.output()[-2000:]
    assert simulator.stop() == 0
    sent = journalled(journal)
    assert len(sent) > 10_000
    with contextlib.suppress(AssertionError):  # then the audit below says which hop lost them
        wait_until(lambda: len(stored(database)) >= len(sent), what="all in SQLite", every_s=1.0)
        wait_until(lambda: in_postgres(servers) >= len(sent), what="all in PostgreSQL", every_s=1.0)
        wait_until(lambda: in_stream(servers) >= len(sent), what="all in the stream", every_s=1.0)
    assert all(process.running for process in (*workers, *sinks))
    for process in (*sinks, *workers):
        assert process.stop() == 0

    hops = [(hop["name"], hop["trades"]) for hop in audit(env, journal)["hops"]]
    prefix = env["MDSTREAM_TOPIC_PREFIX"]
    sinks_named = ("SQLite market_data.db", "PostgreSQL market_data_ticks", "NATS stream MDSTREAM")
    assert hops == [(name, len(sent)) for name in ("journal", f"{prefix}.raw.*", f"{prefix}.trades", *sinks_named)]
    rows = stored(database)
    assert set(rows) == sent
    assert len(rows) == len(sent)


@pytest.mark.usefixtures("default_ports")
def test_demo_shows_prices_and_leaves_nothing_behind(processes: Processes, tmp_path: Path) -> None:
    """`mdstream demo` shows prices and what is stored; Ctrl-C ends all of it; also in a folder with a space."""
    data = tmp_path / "a folder" / "data"
    demo = processes.mdstream("demo", "--rate", 500, env={"MDSTREAM_DATA_DIR": str(data)})
    demo.wait_for("prices flow")
    shown = re.compile(r"stored trades: ([\d,]+), database rows: ([\d,]+), NATS messages: ([\d,]+)")
    wait_until(lambda: shown.search(demo.output()), what="all that is stored")
    wait_until(lambda: re.search(r"SenpAI: [\d.]+ s behind, [1-9]\d* rows/s", demo.output()), what="rows of SenpAI")
    (api,) = re.findall(r"charts: (http://127\.0\.0\.1:\d+)/chart\n", demo.output())
    wait_until(lambda: _json(f"{api}/v1/trades?symbol=BTCUSDT&limit=5")["rows"], what="trades over HTTP")
    children = _children(demo.pid)
    assert len(children) >= 14  # broker, PostgreSQL, NATS, venues, three ingestors, four workers, repair, senpai, API
    demo.signal(signal.SIGINT)
    assert demo.wait() == 0, demo.output()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert stored(data / "market_data.db")


def _json(url: str) -> dict[str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
    except OSError:  # not up yet
        return {"rows": []}
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
