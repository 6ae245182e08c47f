"""`mdstream backfill --interval trades` of a venue whose ids do not count: page by page, killed again and again."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
from past import SECOND_NS, Slow, ago, front, trade
from processes import LIMIT_S, Processes, free_port, run_mdstream, wait_until
from servers import read_topic
from venues import Venues

from mdstream.events import Trade, decode

pytestmark = pytest.mark.system

SYMBOL = "BTCUSD"
BEFORE = 3_500
"""Trades that nobody reads live: more pages than there are kills."""
KILLS = 3


def stored(env: Mapping[str, str], what: str) -> list[tuple[str, float, float, int]]:
    """Id, price, size and time of the trades in the database that are so."""
    path = Path(env["MDSTREAM_DATA_DIR"]) / "market_data.db"
    if not path.exists():
        return []
    with closing(sqlite3.connect(path)) as database:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'trades'").fetchone():
            return []
        columns = "trade_id, price, size, ts_exchange"
        return database.execute(f"SELECT {columns} FROM trades WHERE {what} ORDER BY ts_exchange, seq").fetchall()


def stored_past(env: Mapping[str, str], count: int) -> dict[tuple[str, float, float], int]:
    """The times of the trades of the backfill, once there are so many; none before."""
    rows = stored(env, "recovered")
    assert len({trade_id for trade_id, *_ in rows}) == len(rows)
    return {(trade_id, price, size): at for trade_id, price, size, at in rows} if len(rows) >= count else {}


def test_trades_by_time_are_there_once_though_the_backfill_is_killed(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Each of them up to the first live one, with its own id; none is published twice, and nothing is a dead letter."""
    symbols = ("--venues", "binance,coinbase,kraken", "--symbols", SYMBOL)
    venues = Venues.start(processes, tmp_path / "journal.jsonl", *symbols, "--rate", 600, "--linger", 3_600)
    env |= venues.urls
    asyncio.run(asyncio.wait_for(trade(venues, "kraken", SYMBOL, BEFORE), LIMIT_S))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    processes.worker("files", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "kraken", "--symbols", SYMBOL, "--port", free_port(), env=env)
    wait_until(lambda: stored(env, "NOT recovered"), what="live trades")
    begun_ns = stored(env, "NOT recovered")[0][3]
    wait_until(lambda: time.time_ns() > begun_ns + 11 * SECOND_NS, what="the last ten seconds before the live trades")

    options = ("backfill", "--provider", "kraken", "--symbols", SYMBOL, "--start", ago(1_200))
    slow = Slow(env["KRAKEN_API_BASE_URL"])
    with front(slow.answer) as address:
        for kill in range(KILLS):
            before = slow.answered
            process = processes.mdstream(*options, env=env | {"KRAKEN_API_BASE_URL": address})
            wait_until(lambda: slow.answered > before, what="an answer to the backfill", every_s=0.005)  # noqa: B023
            time.sleep(random.Random(kill).uniform(0.0, 0.15))
            assert process.running, process.output()
            process.kill()
    done = run_mdstream(*options, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    again = run_mdstream(*options, env=env)
    assert again.stdout == f"kraken {SYMBOL}: nothing is missing of what the venue has of that time\n"

    made = [each for each in venues.made() if each.provider == "kraken" and each.ts_exchange < begun_ns]
    past = {(each.trade_id, each.price, each.size): each.ts_exchange for each in made}
    assert len(past) >= BEFORE
    found = wait_until(lambda: stored_past(env, len(past)), what="all past trades", every_s=0.5)
    assert found.keys() == past.keys()
    # Over REST, a time may be a microsecond later (docs/venues/kraken.md).
    assert all(0 <= found[trade] - at <= 1_000 for trade, at in past.items())
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.trades"))
    published = [decode(record.value) for record in records]
    backfilled = [event.trade_id for event in published if isinstance(event, Trade) and event.backfilled]
    assert len(backfilled) == len(set(backfilled)) == len(past)
    assert asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.dead")) == []
