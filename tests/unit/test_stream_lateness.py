"""How late a source is: a statistic of its live trades that one odd time does not move.

trade every 100 ms     latency of a look     median of five      late?
| | | | | | | | |      10 10 -5000 10 10     10                  no
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from stream_histories import FAILOVER, FIRST_IDS, STEP_MS, T0_MS, Raw, frame, history, new_stream, raw
from stream_outputs import events

from mdstream.stream.canonical import Canonical
from mdstream.stream.failover import Health
from mdstream.stream.rules import Policy, Rules

SECONDS = 40
BINANCE = FIRST_IDS["binance"]


def findings(stream: Canonical, name: str, symbol: str) -> tuple[Health, str]:
    return stream.monitor.findings(list(stream.monitor.lines()[symbol]))[name]


def odd(log: list[Raw], numbers: range, by_ms: int) -> Iterator[Raw]:
    """The log, with these trades of Binance stamped by so much wrongly."""
    for record in log:
        number = next((n for n in numbers if f'"t":{BINANCE + n},'.encode() in (record.value or b"")), None)
        if number is None:
            yield record
        else:
            yield replace(record, value=frame("binance", BINANCE + number, T0_MS + number * STEP_MS + by_ms))


@pytest.mark.parametrize("by_ms", [5_000, 60_000, -5_000, -86_400_000])
@pytest.mark.parametrize("at", [0, 1, 150, 203])
def test_trade_with_an_odd_time_makes_nobody_late(by_ms: int, at: int) -> None:
    """A healthy source is not left for one trade, whenever it comes, wherever it is stamped."""
    past = history([], seconds=SECONDS, seed=1)
    stream = new_stream(FAILOVER)
    out = stream.step(list(odd(past.log, range(at, at + 1), by_ms)))
    assert [event for event in events(out.status) if event.get("state") == "switched"] == []
    assert findings(stream, "binance", "BTCUSDT") == (Health.GOOD, "")


def test_source_whose_trades_are_all_late_is_left() -> None:
    """Trades that come 4 s after they were made, for longer than stale_after."""
    past = history([], seconds=SECONDS, seed=1)
    out = new_stream(FAILOVER).step(list(odd(past.log, range(200, 400), -4_000)))
    (switch,) = [event for event in events(out.status) if event.get("state") == "switched"]
    assert switch["reason"] == "binance: late by more than 2.0 s"
    assert 23_000 <= switch["ts_recv"] / 1e6 - T0_MS <= 25_000


def test_few_late_trades_and_then_silence_are_no_stretch_of_lateness() -> None:
    """Late is who was seen to be late for stale_after; of a time without trades nothing is known."""
    past = history([], seconds=SECONDS, seed=1)
    late = odd(past.log, range(200, 212), -4_000)
    log = [r for r in late if r.timestamp < T0_MS + 21_200 or b'"stream"' not in (r.value or b"")]
    stream = new_stream(FAILOVER)
    stream.step(log[: next(n for n, r in enumerate(log) if r.timestamp > T0_MS + 24_500)])
    assert stream.sources[b"binance"].state.late_since_ns
    assert findings(stream, "binance", "BTCUSDT")[1] != "late by more than 2.0 s"


def test_last_match_after_a_reconnect_makes_nobody_late() -> None:
    """It is the last trade before the subscription, hours old in a quiet product: nothing of the way here. A feed of
    fifty products brings one after the other, for longer than a median forgives."""
    stream = new_stream(Rules(Policy(("coinbase", "okx"))))
    match = {"type": "match", "side": "sell", "size": "1", "price": "2", "product_id": "BTC-USDT"}
    for step in range(300):
        ms = T0_MS + step * STEP_MS
        message = [match | {"trade_id": step + 1, "time": f"2026-01-05T15:00:{step // 10:02d}.{step % 10}Z"}]
        if step >= 100:  # reconnected, to a quiet market
            old = {"type": "last_match", "product_id": f"OLD{step}-USDT", "time": "2026-01-05T09:00:00Z"}
            message = [match | old | {"trade_id": 7}] if step < 150 else []
        stream.step([raw("coinbase", "trade", json.dumps(row).encode(), ms + 10, step) for row in message])
        stream.step([raw("coinbase", "heartbeat", b"", ms + 20, step), raw("okx", "heartbeat", b"", ms + 20, step)])
    assert stream.sources[b"coinbase"].state.late_since_ns == 0
    assert findings(stream, "coinbase", "BTCUSDT") == (Health.GOOD, "")
