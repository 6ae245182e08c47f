"""From a venue to signals: simulator, ingestor, core worker, nats role, senpai; and backtests of the same."""

from __future__ import annotations

import asyncio
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from nats_streams import held
from pages import page
from processes import Processes, free_port, run_mdstream, wait_until
from servers import nats_server
from venues import Venues

pytestmark = pytest.mark.system

RULES = {
    "up": {"direction": "long", "above": {"return_10s": 1e-6}, "cooldown_s": 1},
    "down": {"direction": "short", "below": {"return_10s": -1e-6}, "cooldown_s": 1},
}
Row = tuple[str, ...]


@pytest.fixture
def env(env: dict[str, str]) -> Iterator[dict[str, str]]:
    """A row waits ten seconds for what was received before it: however busy the machine is, none comes too late."""
    with nats_server() as server:
        yield env | {
            "NATS_URL": server.url,
            "USE_JETSTREAM": "true",
            "MDSTREAM_SENPAI_STREAM_MESSAGES": "100000",
            "MDSTREAM_SENPAI_LATENESS_MS": "10000",
            "MDSTREAM_SENPAI_MAX_QUOTE_AGE_S": "60",
            "MDSTREAM_SENPAI_MAX_LATENCY_MS": "100000",
            "MDSTREAM_SENPAI_RULES": msgspec.json.encode(RULES).decode(),
        }


def text_of(value: Any) -> str:
    return "" if value is None else str(value)


def published(messages: list[dict[str, Any]]) -> dict[str, dict[int, Row]]:
    """The rows of each symbol by T, with their signals, as a backtest writes them."""
    signals: dict[tuple[str, int], list[str]] = defaultdict(list)
    for each in messages:
        if each["type"] == "signal":
            signals[each["symbol"], each["ts"]].append(each["id"])
    rows: dict[str, dict[int, Row]] = defaultdict(dict)
    for each in messages:
        if each["type"] != "features":
            continue
        symbol, ts = each["symbol"], each["ts"]
        assert ts not in rows[symbol]
        flags = [each["complete"], " ".join(each.get("incomplete", ()))]
        flags += [each.get("switched", False), each.get("late", False), " ".join(signals[symbol, ts])]
        values = [symbol, ts, each["provider"], each["ts_quote"], *each["features"].values(), *flags]
        rows[symbol][ts] = tuple(map(text_of, values))
    return rows


def written(path: Path) -> dict[str, dict[int, Row]]:
    """The rows of a backtest."""
    rows: dict[str, dict[int, Row]] = defaultdict(dict)
    with path.open(newline="") as file:
        for row in list(csv.reader(file))[1:]:
            rows[row[0]][int(row[1])] = tuple(row)
    return rows


def test_backtests_equal_what_was_published_row_for_row(
    env: dict[str, str], processes: Processes, tmp_path: Path
) -> None:
    """Also when the nats role and senpai were killed meanwhile: features, flags and signals, each once."""
    port = free_port()
    simulator = Venues.start(processes, tmp_path / "journal.jsonl", "--venues", "binance,coinbase", "--rate", 300)
    processes.worker("core", port=free_port())
    role = processes.worker("nats", port=free_port())
    senpai = processes.mdstream("senpai", "--port", port)
    processes.env = {**processes.env, **simulator.urls}
    processes.mdstream("ingest", "--provider", "binance", "--symbols", "BTCUSDT,ETHUSDT", "--port", free_port())

    def stats() -> dict[str, Any]:
        return page(port, "/stats")[1] or {"features": 0, "signals": {}}

    wait_until(lambda: stats()["features"] > 50, what="rows", limit_s=300)
    role.kill()
    senpai.kill()
    simulator.pause()  # else a slow machine makes more than ten seconds of what the next worker has to catch up with
    processes.worker("nats", port=free_port()).wait_for(" is up: ")
    simulator.resume()
    processes.mdstream("senpai", "--port", port)
    wait_until(lambda: stats()["features"] > 50 and sum(stats()["signals"].values()) > 2, what="signals", limit_s=300)
    simulator.pause()
    live = published([m.event for m in asyncio.run(held(env["NATS_URL"], "SENPAI")) if ".state." not in m.subject])
    assert set(live) == {"BTCUSDT", "ETHUSDT"}

    capture, of_capture, of_topics = (tmp_path / name for name in ("all.jsonl", "capture.csv", "topics.csv"))
    for args in (
        ("record", capture, "--from-beginning", "--to-end"),
        ("senpai", "--replay", capture, "--output", of_capture),
        ("senpai", "--from-time", "1d", "--output", of_topics),
    ):
        done = run_mdstream(*args, env=processes.env, timeout=300)
        assert done.returncode == 0, done.stderr
    for found in (written(of_topics), written(of_capture)):
        for symbol, rows in live.items():
            again = {ts: row for ts, row in found[symbol].items() if ts <= max(rows)}
            assert again == rows
    assert sum(bool(row[-1]) for rows in live.values() for row in rows.values()) > 2
