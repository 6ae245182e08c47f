"""Simulated Bybit linear: where it differs from spot, whose tests are in test_simulator_bybit.py."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.errors import FrameError
from mdstream.venues.bybit import simulated as spot
from mdstream.venues.bybit_linear.simulated import CHANNELS
from mdstream.venues.providers import provider


def test_success_has_no_message_and_a_request_any_number_of_topics() -> None:
    """An empty `ret_msg`; the cap of ten topics is spot's."""
    args = [f"publicTrade.C{n}USDT" for n in range(11)]
    (answer,), joined = answers(session("bybit_linear"), {"req_id": "7", "op": "subscribe", "args": args})
    assert (answer["success"], answer["ret_msg"], answer["req_id"]) == (True, "", "7")
    assert len(joined) == 11
    (refused,), _ = answers(session("bybit"), {"req_id": "7", "op": "subscribe", "args": args})
    assert refused["success"] is False


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTCPERP", "BTCUSDT-26DEC25", "BTC-26DEC25"])
def test_contracts_are_listed_under_their_own_names(symbol: str) -> None:
    """With trades whose ids are UUIDs, and a tick direction in each."""
    of = listing("bybit_linear", symbol)
    assert of.canonical == provider("bybit_linear").canonical(symbol)
    order = of.instrument.order(NOW_NS)
    (frame,) = CHANNELS["publicTrade"].encode(of, order)
    rows = json.loads(frame)["data"]
    assert [UUID(row["i"]).version for row in rows] == [5] * len(order.fills)
    assert {row["L"] for row in rows} <= {"PlusTick", "MinusTick"}
    assert {row["s"] for row in rows} == {symbol}


@pytest.mark.parametrize(
    "symbol", ["BTCUSD", "BTCUSDC", "btcusdt", "BTCUSDT-PERP", "BTCUSDT-1JAN26", "BTC-26DEC25-100000-C"]
)
def test_what_is_not_linear_is_refused(symbol: str) -> None:
    """Inverse contracts, options and canonical names are no topics here."""
    request = {"req_id": "7", "op": "subscribe", "args": [f"publicTrade.{symbol}"]}
    (answer,), joined = answers(session("bybit_linear"), request)
    assert (answer["success"], joined) == (False, [])


def test_neither_provider_takes_the_others_trades() -> None:
    """Both markets call an instrument BTCUSDT: at the wrong address each names the setting that is wrong."""
    for name, other, channels in (("bybit", "bybit_linear", CHANNELS), ("bybit_linear", "bybit", spot.CHANNELS)):
        of = listing(other, "BTCUSDT")
        (frame,) = channels["publicTrade"].encode(of, of.instrument.order(NOW_NS))
        with pytest.raises(FrameError, match=f"{name.upper()}_WS_URL has to lead to"):
            provider(name).decode(frame.encode())
