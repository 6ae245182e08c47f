"""`mdstream backfill` of Kraken's trades, whose ids do not count: by time, whatever is killed meanwhile.

venue       ───────────── trades ──────────────────────────────>
ingest                             from here on, live  ══════>
backfill    <═ a page ══│── killed ══│── killed ══════ started again
md.trades   every trade of the venue's journal once, those from before marked
"""

from __future__ import annotations

import asyncio
from math import fsum
from pathlib import Path

import pytest
from past import kill_after_a_page, published, trade
from processes import LIMIT_S, Processes, free_port, run_mdstream, wait_until
from venues import Venues

pytestmark = pytest.mark.system

BEFORE = 5_000
"""Trades that nobody reads live: more pages of a thousand than there are kills."""
BACKFILL = ("backfill", "--provider", "kraken", "--symbols", "BTCUSD", "--start", "1h")
NOTHING = "kraken BTCUSD: nothing is missing of what the venue has of that time"


def test_past_trades_of_kraken_are_there_once_and_meet_the_live_ones(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """By the venue's ids, although the venue's times over REST are rounded and its pages overlap."""
    venues = Venues.start(
        processes, tmp_path / "journal.jsonl", "--venues", "binance,coinbase,kraken", "--rate", 500, "--linger", 3_600
    )
    env |= venues.urls
    asyncio.run(asyncio.wait_for(trade(venues, "kraken", "BTCUSD", BEFORE), LIMIT_S))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    worker = processes.worker("core", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "kraken", "--symbols", "BTCUSD", "--port", free_port(), env=env)
    wait_until(lambda: published(env), what="live trades")

    kill_after_a_page(processes, env, BACKFILL)
    worker.kill()
    processes.worker("core", port=free_port(), env=env).wait_for("is up")
    kill_after_a_page(processes, env, BACKFILL)
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
    past = {int(trade.trade_id) for trade in trades if trade.backfilled}
    assert len(past) >= BEFORE
    assert max(past) < min(int(trade.trade_id) for trade in trades if not trade.backfilled)
    assert rest["refused"] == 0
    # Each run repeats a page at most, which it was killed at or which has its end; a few trades of each come twice.
    assert rest["requests"] <= len(past) // 900 + 3 + len(said)
