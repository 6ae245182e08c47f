"""`mdstream backfill` of trades whose ids do not count, Kraken's: by time, whatever is killed meanwhile.

venue       ───────────── trades ──────────────────────────────>
ingest                             from here on, live  ══════>
backfill    <═ a page ══│── killed ══│── killed ══════ started again
md.trades   every trade of the venue's journal once, those from before marked
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from math import fsum
from pathlib import Path

import pytest
from past import Slow, front, published, trade
from processes import LIMIT_S, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from venues import Venues

pytestmark = pytest.mark.system

SYMBOL = "BTCUSD"
BEFORE = 5_000
"""Trades that nobody reads live: more pages of a thousand than there are kills."""
KILLS = 3
BACKFILL = ("backfill", "--provider", "kraken", "--symbols", SYMBOL, "--start", "1h")
NOTHING = f"kraken {SYMBOL}: nothing is missing of what the venue has of that time"


def kill_after_an_answer(processes: Processes, env: Mapping[str, str], venue: Slow, seed: int) -> None:
    """Start a backfill, and kill it anywhere between an answer of the venue and what comes of it."""
    before, process = venue.answered, processes.mdstream(*BACKFILL, env=env)
    wait_until(lambda: venue.answered > before, what="an answer to the backfill", every_s=0.005)
    time.sleep(random.Random(seed).uniform(0.0, 0.15))
    assert process.running, process.output()
    process.kill()


def stored(env: Mapping[str, str]) -> list[str]:
    """The ids in the database."""
    with closing(sqlite3.connect(Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db")) as database:
        return [trade_id for (trade_id,) in database.execute("SELECT trade_id FROM trades")]


def test_past_trades_are_there_once_and_meet_the_live_ones(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """By the venue's ids, although its times over REST are rounded and its pages overlap."""
    symbols = ("--venues", "binance,coinbase,kraken", "--symbols", SYMBOL)
    venues = Venues.start(processes, tmp_path / "journal.jsonl", *symbols, "--rate", 500, "--linger", 3_600)
    env |= venues.urls
    asyncio.run(asyncio.wait_for(trade(venues, "kraken", SYMBOL, BEFORE), LIMIT_S))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    worker = processes.worker("core", port=free_port(), env=env)
    processes.worker("files", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "kraken", "--symbols", SYMBOL, "--port", free_port(), env=env)
    wait_until(lambda: published(env), what="live trades")

    slow = Slow(env["KRAKEN_API_BASE_URL"])
    with front(slow.answer) as address:
        for kill in range(KILLS):
            kill_after_an_answer(processes, env | {"KRAKEN_API_BASE_URL": address}, slow, kill)
            if kill == 0:
                worker.kill()
                processes.worker("core", port=free_port(), env=env).wait_for("is up")
    said: list[str] = []

    def done() -> bool:
        """Whether nothing is left; what is too recent is left for the next time."""
        result = run_mdstream(*BACKFILL, env=env)
        assert result.returncode == 0, result.stderr + result.stdout
        said.append(result.stdout)
        return result.stdout.strip() == NOTHING

    wait_until(done, what="the end of history", every_s=1.0)

    rest = venues.ask("GET", "/status")["rest"]["kraken"]
    venues.pause()
    made = {each.trade_id: each for each in venues.stop() if each.provider == "kraken"}
    wait_until(lambda: len(published(env)) >= len(made), what=f"{len(made)} trades")
    trades = published(env)
    assert [trade.seq for trade in trades] == list(range(trades[0].seq, trades[0].seq + len(trades)))
    assert sorted(trade.trade_id for trade in trades) == sorted(made)
    assert fsum(trade.size for trade in trades) == pytest.approx(fsum(each.size for each in made.values()), rel=1e-9)
    past = [trade for trade in trades if trade.backfilled]
    assert len(past) >= BEFORE
    assert max(int(trade.trade_id) for trade in past) < min(int(t.trade_id) for t in trades if not t.backfilled)
    # Over REST, a time may be a microsecond later (docs/venues/kraken.md).
    assert all(0 <= (trade.ts_exchange or 0) - made[trade.trade_id].ts_exchange <= 1_000 for trade in past)
    wait_until(lambda: len(stored(env)) >= len(made), what="every trade in the database")
    assert sorted(stored(env)) == sorted(made)
    assert asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.dead")) == []
    assert rest["refused"] == 0
    # Each run repeats a page at most, which it was killed at or which has its end; a few trades of each come twice.
    assert rest["requests"] <= len(past) // 900 + KILLS + 1 + len(said)
