"""examples/ run as they are and print what the topics hold."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from canonical import ROUNDS_A_BAR, SYMBOLS, made_settings, publish, rounds, trades
from processes import Processes, free_port, wait_until

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(name: str, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLES / name, *args],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_check_trades_skips_repeats_and_reports_losses(env: dict[str, str]) -> None:
    """Twenty trades a symbol, five of them twice, then five that are missing."""
    settings = made_settings(env)
    publish(settings, [*trades(0, 20), *trades(10, 15), *trades(25, 30)])
    topic = f"{settings.topic_prefix}.trades"
    done = run("check_trades.py", "--brokers", env["KAFKA_BOOTSTRAP_SERVERS"], "--topic", topic, "--until-end")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sorted(lines[:-1]) == sorted(f"{symbol}: 5 trades lost before seq 25" for symbol in SYMBOLS)
    n = len(SYMBOLS)
    assert lines[-1] == f"{25 * n} trades of {n} symbols, {5 * n} repeats skipped, {5 * n} lost"


def test_bars_frame_holds_the_last_revision_of_each_bar(env: dict[str, str]) -> None:
    """Each bar was written ten times, each time with the next revision."""
    settings = made_settings(env)
    publish(settings, rounds(0, 3 * ROUNDS_A_BAR))
    topic = f"{settings.topic_prefix}.bars"
    done = run("bars_frame.py", "--brokers", env["KAFKA_BOOTSTRAP_SERVERS"], "--topic", topic, "--interval", "1m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{3 * len(SYMBOLS)} bars of {len(SYMBOLS)} symbols"
    assert "2026-01-05 15:02:00+00:00" in done.stdout


def test_vwap_counts_each_trade_once(env: dict[str, str]) -> None:
    """Twenty trades, some of them twice."""
    publish(made_settings(env), [*trades(0, 20), *trades(10, 20)])
    done = run("vwap.py", SYMBOLS[0].lower(), env=env)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "1.50 over 40\n")


def test_latest_prices_shows_every_instrument(processes: Processes, env: dict[str, str]) -> None:
    """Asked over HTTP, page by page."""
    settings, port = made_settings(env), free_port()
    processes.mdstream("worker", "core", "--port", str(port), env=env)
    publish(settings, rounds(0, 3))

    def shown() -> list[str]:
        lines = run("latest_prices.py", f"http://127.0.0.1:{port}").stdout.splitlines()
        return lines if len(lines) == len(SYMBOLS) else []

    lines = wait_until(shown, what="the price of every instrument", limit_s=60, every_s=1.0)
    assert lines == [f"{symbol:<12} last 1.5  bid 1.0  ask None" for symbol in sorted(SYMBOLS)]
