"""Everything together, as processes: venues, ingestors, two core workers, the files role; and workers that die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mdstream.testing import Process, Processes, free_port, run_mdstream, wait_until

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

    def look() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                return bool(json.load(answer)["status"] == "ok")
        except OSError:
            return False

    return look


def journalled(journal: Path) -> set[Key]:
    """The trades that the simulator sent."""
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    return {(row["provider"], row["symbol"], row["trade_id"]) for row in rows}


def stored(database: Path) -> list[Key]:
    """The trades in SQLite, as many times as they are there."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5) as connection:
        return list(connection.execute("SELECT provider, symbol, trade_id FROM trades"))


def audit(env: dict[str, str], journal: Path) -> dict[str, Any]:
    """What `mdstream audit` says; it must agree hop by hop."""
    done = run_mdstream("audit", "--journal", journal, "--json", env=env, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    said: dict[str, Any] = json.loads(done.stdout)
    return said


@pytest.mark.timeout(360 + 30 * KILLS)
def test_sqlite_holds_every_trade_once_when_workers_are_killed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """At 5,000 frames/s a core worker dies again and again: no trade is lost, none stored twice."""
    journal, database = tmp_path / "sent.jsonl", tmp_path / "data" / "market_data.db"
    simulator, urls, control = start_venues(processes, journal, RATE)
    ports = [free_port(), free_port()]
    workers = [processes.worker("core", port=port) for port in ports]
    files = processes.worker("files", port=free_port())
    ingestors = [
        processes.mdstream("ingest", "--provider", name, "--symbols", symbols, "--port", free_port(), env=urls)
        for name, symbols in SYMBOLS.items()
    ]
    for port in ports:
        wait_until(healthy(port), what=f"the worker at {port} to own partitions", limit_s=60)
    wait_until(database.exists, what="the database", limit_s=60)

    for kill in range(KILLS):
        time.sleep((0.3, 2.0, 5.0)[kill % 3])  # from before the first commit of the new owner to well after it
        victim = kill % 2
        workers[victim].kill()
        time.sleep((4.0, 0.0, 9.0)[kill % 3])  # back before, during and after the others' takeover
        workers[victim] = processes.worker("core", port=ports[victim])
        wait_until(healthy(ports[victim]), what=f"the worker at {ports[victim]} to be back", limit_s=60)

    post(f"{control}/pause")
    time.sleep(1.0)  # what is on the sockets
    for ingestor in ingestors:
        assert ingestor.stop() == 0, ingestor.output()[-2000:]
    assert simulator.stop() == 0
    sent = journalled(journal)
    assert len(sent) > 10_000
    with contextlib.suppress(AssertionError):  # then the audit below says which hop lost them
        wait_until(lambda: len(stored(database)) >= len(sent), what="all in SQLite", limit_s=60, every_s=1.0)
    assert all(process.running for process in (*workers, files))
    assert files.stop() == 0
    for worker in workers:
        assert worker.stop() == 0

    audit(env, journal)
    rows = stored(database)
    assert set(rows) == sent
    assert len(rows) == len(sent)


@pytest.mark.timeout(120)
def test_demo_shows_prices_and_leaves_nothing_behind(processes: Processes, tmp_path: Path) -> None:
    """`mdstream demo` shows prices, and Ctrl-C ends it and everything it started; also in a folder with a space."""
    data = tmp_path / "a folder" / "data"
    demo = processes.mdstream("demo", "--rate", 500, env={"MDSTREAM_DATA_DIR": str(data)})
    demo.wait_for("prices flow", limit_s=60)
    demo.wait_for("stored trades: ", limit_s=30)
    children = _children(demo.pid)
    assert len(children) >= 7  # broker, venues, three ingestors, two workers
    demo.signal(signal.SIGINT)
    assert demo.wait(limit_s=60) == 0, demo.output()
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
    assert stored(data / "market_data.db")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
