"""`mdstream backfill` of Interactive Brokers: bars and trades, with a gateway, a core worker and Kafka around it."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from feed_reader import read_feed
from past import kill_after_a_page, published
from processes import Processes, free_port, run_mdstream, until, wait_until
from servers import read_topic
from test_ib import two_ports

from mdstream.events import HISTORY, Bar, decode
from mdstream.venues.ib.feed import Ib

pytestmark = pytest.mark.system

BACKFILL = ("backfill", "--provider", "ib", "--symbols", "AAPL", "--interval", "1s", "--start", "1h")
TRADES = 500


def bars(env: Mapping[str, str]) -> dict[int, Bar]:
    """What is on md.bars, by time; each bar is there once."""
    records = asyncio.run(read_topic(env["KAFKA_BOOTSTRAP_SERVERS"], f"{env['MDSTREAM_TOPIC_PREFIX']}.bars"))
    found: dict[int, Bar] = {}
    for record in records:
        bar = decode(record.value)
        assert isinstance(bar, Bar)
        assert bar.ts_open not in found
        found[bar.ts_open] = bar
    return found


async def trade(url: str, most: int = TRADES) -> dict[int, tuple[float, float, float, float, float, int]]:
    """Let AAPL trade; the bars of its whole seconds, by the live feed's trades: in none of our logs."""
    async with read_feed(Ib, url, "AAPL") as reader:
        await until(lambda: len(reader.trades("AAPL")) > most)
        trades = reader.trades("AAPL")
    seconds: dict[int, list[tuple[float, float]]] = {}
    for each in trades:
        seconds.setdefault(each.ts_exchange or 0, []).append((each.price, each.size))
    last = max(seconds)
    return {
        ts: (prices[0], max(prices), min(prices), prices[-1], sum(sizes), len(rows))
        for ts, rows in seconds.items()
        for prices, sizes in [tuple(zip(*rows, strict=True))]
        if ts < last
    }


def call(port: int, path: str, body: bytes | None = None) -> Any:
    """The simulator's answer to a GET, or to a POST with a body."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=10) as answer:
        return json.load(answer)


def test_past_bars_of_a_symbol_that_nobody_reads_are_on_md_bars(processes: Processes, env: dict[str, str]) -> None:
    """As the venue has them, each once, also when the command is run again, and though the gateway ends connections all
    the time. It sees no violation of its rules. What it refuses is told with what to do."""
    port = two_ports()
    options = ("--symbols", "AAPL", "--rate", 200, "--linger", 3600)
    process = processes.mdstream("simulate", "--port", port, "--venues", "ib", *options)
    process.wait_for("export IB_WS_URL=")
    env["IB_WS_URL"] = f"ib://127.0.0.1:{port + 1}"
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    processes.worker("core", port=free_port(), env=env)
    made = asyncio.run(trade(env["IB_WS_URL"]))
    fault = call(port, "/faults", b'{"venue":"ib","kind":"disconnect","every_s":0.1}')["id"]

    def filled() -> bool:
        done = run_mdstream(*BACKFILL, env=env)
        assert done.returncode == 0, done.stderr + done.stdout
        cut = call(port, f"/faults/{fault}")["counts"].get("connections", 0)
        return set(made) <= set(bars(env)) and cut > 0

    # The last seconds are left for later, and each time there are some more to ask for.
    wait_until(filled, what="the bars of what was traded, over connections that were cut", every_s=3.0)
    found = bars(env)
    assert all((bar.provider, bar.backfilled, bar.revision) == ("ib", True, HISTORY) for bar in found.values())
    shown = {ts: (b.open, b.high, b.low, b.close, b.volume, b.trades) for ts, b in found.items() if ts in made}
    assert shown == {ts: pytest.approx(values) for ts, values in made.items()}
    refused = run_mdstream(*BACKFILL, "--symbols", "TSLA", env=env)
    assert refused.returncode == 1
    assert "ib TSLA 1s: not done: 200 No security definition has been found for the request: name an" in refused.stderr
    assert call(port, "/status")["own"]["ib"]["pacing_violations"] == 0


BEFORE = 5_000
"""Trades that nobody keeps: more pages of a thousand than there are kills."""
OF_TRADES = ("backfill", "--provider", "ib", "--symbols", "AAPL", "--interval", "trades", "--start", "1h")
NOTHING = "ib AAPL: nothing is missing of what the venue has of that time"
SAME_S = 16.0
"""The venue refuses the same request within 15 s, also of a process that is started again."""


def test_past_trades_are_there_once_and_end_before_the_second_of_the_first_live_one(
    processes: Processes, env: dict[str, str], tmp_path: Path
) -> None:
    """Whatever is killed meanwhile: each that the venue made before that second, and no other."""
    port, journal = two_ports(), tmp_path / "journal.jsonl"
    options = ("--symbols", "AAPL", "--rate", 300, "--linger", 3_600, "--journal", journal)
    market = processes.mdstream("simulate", "--port", port, "--venues", "ib", *options)
    market.wait_for("export IB_WS_URL=")
    env["IB_WS_URL"] = f"ib://127.0.0.1:{port + 1}"
    asyncio.run(trade(env["IB_WS_URL"], BEFORE))
    assert run_mdstream("topics", "--create", env=env).returncode == 0
    worker = processes.worker("core", port=free_port(), env=env)
    processes.mdstream("ingest", "--provider", "ib", "--symbols", "AAPL", "--port", free_port(), env=env)
    wait_until(lambda: published(env), what="live trades")

    kill_after_a_page(processes, env, OF_TRADES)
    worker.kill()
    time.sleep(SAME_S)
    processes.worker("core", port=free_port(), env=env).wait_for("is up")
    kill_after_a_page(processes, env, OF_TRADES)
    time.sleep(SAME_S)

    def done() -> bool:
        """Whether nothing is left; what is too recent is left for the next time."""
        result = run_mdstream(*OF_TRADES, env=env)
        assert result.returncode == 0, result.stderr + result.stdout
        return result.stdout.strip() == NOTHING

    wait_until(done, what="the end of history", every_s=5.0)
    call(port, "/pause", b"")
    market.stop()
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    made = Counter((row["ts_exchange"], float(row["price"]), float(row["size"])) for row in rows)
    last_ns = max(ts for ts, *_ in made)
    wait_until(lambda: published(env)[-1].ts_exchange == last_ns, what="the last trade")
    trades = published(env)
    assert [event.seq for event in trades] == list(range(trades[0].seq, trades[0].seq + len(trades)))
    live = Counter((t.ts_exchange, t.price, t.size) for t in trades if not t.backfilled)
    past = Counter((t.ts_exchange, t.price, t.size) for t in trades if t.backfilled)
    first_ns = min(ts or 0 for ts, *_ in live)
    assert past == {key: count for key, count in made.items() if key[0] < first_ns}
    assert past.total() >= BEFORE
    assert live <= made  # of the first live trade's second, those from before it are in neither
    assert len({t.trade_id for t in trades}) == len(trades)
