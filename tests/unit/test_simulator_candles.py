"""Candles of the simulated venues, and how Binance serves them."""

from __future__ import annotations

import json
from collections import defaultdict
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_simulator_history import START_NS, fills_of, traded
from test_simulator_rest_venues import FIRST_ID, NOW_NS, PLENTY, Venue

from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Fill
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.venues import EXCHANGES, RESTS

MS = 1_000_000


@given(st.integers(0, 2**32), st.integers(0, 60), st.integers(1, 20), st.integers(-30, 70), st.integers(-30, 70))
def test_candles_are_the_fills_of_whole_intervals(seed: int, orders: int, seconds: int, begin: int, end: int) -> None:
    """Each interval that begins in the window, with all of its fills, and no other."""
    of, made = traded(seed, orders)
    interval_ns, low_ns, high_ns = seconds * SECOND_NS, START_NS + begin * SECOND_NS, START_NS + end * SECOND_NS
    groups: dict[int, list[Fill]] = defaultdict(list)
    for fill in fills_of(made):
        groups[fill.ts_ns - fill.ts_ns % interval_ns].append(fill)
    assert list(candles(of.tape, interval_ns, low_ns, high_ns)) == [
        Candle(
            ts_ns,
            group[0].ticks,
            max(fill.ticks for fill in group),
            min(fill.ticks for fill in group),
            group[-1].ticks,
            sum(fill.lots for fill in group),
            sum(fill.ticks * fill.lots for fill in group),
            len(group),
        )
        for ts_ns, group in groups.items()
        if low_ns <= ts_ns < high_ns
    ]


def klines(venue: Venue, query: str) -> list[list[Any]]:
    found: list[list[Any]] = venue.json(f"/api/v3/klines?symbol=BTCUSDT&{query}")
    return found


def test_binance_has_a_kline_of_every_interval_since_the_first_trade() -> None:
    """Without trades: at the price of the last one, with a count of 0. startTime and endTime are both included."""
    venue = Venue("binance", 3)
    venue.listing.instrument.order(NOW_NS + 3 * SECOND_NS)
    (first_ms,) = {order.ts_ns // SECOND_NS * 1000 for order in venue.orders}
    target = f"/api/v3/klines?symbol=BTCUSDT&interval=1s&startTime=0&endTime={first_ms + 3000}"
    found = json.loads(venue.get(target, NOW_NS + 9 * SECOND_NS).body)
    assert [kline[0] for kline in found] == [first_ms + 1000 * second for second in range(4)]
    assert [kline[8] for kline in found[:3]] == [len(venue.ids), 0, 0]
    assert set(found[1][1:5]) == set(found[2][1:5]) == {found[0][4]}
    assert found[0][6] == first_ms + 999
    assert float(found[1][5]) == float(found[1][7]) == 0.0
    assert float(found[0][7]) == pytest.approx(
        sum(
            float(venue.listing.price(fill.ticks)) * float(venue.listing.size(fill.lots))
            for order in venue.orders
            for fill in order.fills
        )
    )


def test_binance_has_no_klines_to_come_and_none_of_an_instrument_without_trades() -> None:
    """The last one is the one that is open now; without startTime the newest are given."""
    venue = Venue("binance", 2)
    now_ms = NOW_NS // MS
    assert klines(venue, f"interval=1s&startTime={now_ms + 5000}") == []
    assert [kline[0] for kline in klines(venue, "interval=1s&limit=1")] == [now_ms // 1000 * 1000]
    assert klines(Venue("binance"), "interval=1m&startTime=0") == []


def test_binance_refuses_an_interval_that_it_does_not_have() -> None:
    """HTTP 400, with the venue's code."""
    for interval in ("", "7m", "1"):
        answer = Venue("binance").get(f"/api/v3/klines?symbol=BTCUSDT&interval={interval}")
        assert answer.status is HTTPStatus.BAD_REQUEST
        assert json.loads(answer.body) == {"code": -1120, "msg": "Invalid interval."}


@pytest.mark.parametrize(
    ("limit", "weight"), [("99", 1), ("100", 2), ("499", 2), ("500", 5), ("1000", 5), ("1001", 10), ("1500", 10)]
)
def test_klines_of_binance_futures_cost_by_their_limit(limit: str, weight: int) -> None:
    """The lists cost what they cost."""
    rest = RESTS["binance_usdm"](EXCHANGES["binance_usdm"](Market(1, FIRST_ID)), PLENTY)
    used = [
        rest.get(target, query, NOW_NS).headers["x-mbx-used-weight-1m"]
        for target, query in (
            ("/fapi/v1/klines", f"symbol=BTCUSDT&interval=1m&limit={limit}"),
            ("/fapi/v1/exchangeInfo", ""),
        )
    ]
    assert used == [str(weight), str(weight + 1)]
