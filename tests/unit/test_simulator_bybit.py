"""Simulated Bybit: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Close, Subscribe
from mdstream.simulator.market import SECOND_NS
from mdstream.venues.bybit.simulated import CHANNELS, BybitSession

TRADES, TOP, BOOK = "publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.50.BTCUSDT"


def request(*args: Any, op: str = "subscribe") -> dict[str, Any]:
    return {"req_id": "7", "op": op, "args": list(args)}


def test_request_is_acknowledged_as_a_whole_and_the_present_state_follows() -> None:
    """One answer with the request's id; then the best orders and the book, but no trade from before."""
    to = session("bybit")
    (ack, top, book), joined = answers(to, request(TRADES, TOP, BOOK))
    assert ack.pop("conn_id")
    assert ack == {"success": True, "ret_msg": "subscribe", "req_id": "7", "op": "subscribe"}
    assert [(m["topic"], m["type"]) for m in (top, book)] == [(TOP, "snapshot"), (BOOK, "snapshot")]
    assert [type(action) for action in joined] == [Subscribe] * 3
    ((left,), _) = answers(to, request(TRADES, op="unsubscribe"))
    assert (left["success"], left["op"]) == (True, "unsubscribe")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "Params Error"),
        ("[]", "Params Error"),
        (request(), "Params Error"),
        (request(1), "Params Error"),
        (request(op="auth"), "error:unknown op"),
        (request(*[f"publicTrade.C{n}USDT" for n in range(11)]), "args size >10"),
        (request("publicTrade." + "C" * 21_000), "args length >21000"),
        (request(TRADES, "orderbook.7.BTCUSDT"), "Invalid topic :[orderbook.7.BTCUSDT]"),
        (request(TRADES, "publicTrade.BTC-USDT"), "Invalid topic :[publicTrade.BTC-USDT]"),
    ],
)
def test_bad_request_is_refused_as_a_whole(text: Any, message: str) -> None:
    """With the reason, and nothing is subscribed to, not even the good topic before the bad one."""
    to = session("bybit")
    (answer,), actions = answers(to, text)
    assert (answer["success"], answer["ret_msg"]) == (False, message)
    assert answer.get("req_id") == ("7" if isinstance(text, dict) else None)
    assert (actions, to.topics) == ([], {})


def test_arguments_of_a_connection_count_together() -> None:
    """At most 21,000 characters, a topic that is subscribed to already counted once."""
    to = session("bybit")
    for n in range(105):
        args = [f"orderbook.50.{'C' * 19}{n:03}{letter}USDT" for letter in "ABCDE"]
        answers(to, request(*args), NOW_NS + n * SECOND_NS)
    assert sum(map(len, to.topics)) == 21_000
    later_ns = NOW_NS + 200 * SECOND_NS
    assert answers(to, request(*args), later_ns)[0][0]["success"] is True
    assert answers(to, request(TRADES), later_ns)[0][0]["success"] is False


def test_ping_is_answered_with_the_op_ping() -> None:
    """As the public channels do; without a request's id if it had none."""
    (answer,), _ = answers(session("bybit"), '{"op":"ping"}')
    assert (answer["success"], answer["op"], answer["ret_msg"], "req_id" in answer) == (True, "ping", "pong", False)


def test_a_client_that_says_nothing_for_ten_minutes_is_closed() -> None:
    """Whatever it was sent; a ping keeps the connection."""
    to, minutes = session("bybit"), 60 * SECOND_NS
    assert isinstance(to.tick(NOW_NS + 10 * minutes, NOW_NS + 10 * minutes)[0], Close)
    answers(to, '{"op":"ping"}', NOW_NS + 9 * minutes)
    assert to.tick(NOW_NS + 10 * minutes, NOW_NS) == []


def test_fills_of_an_order_come_in_one_frame() -> None:
    """As rows, each with its own id."""
    of = listing("bybit", "BTCUSDT")
    order = next(o for o in iter(lambda: of.instrument.order(NOW_NS), None) if len(o.fills) > 1)
    (frame,) = CHANNELS["publicTrade"].encode(of, order)
    assert [row["i"] for row in json.loads(frame)["data"]] == [str(fill.trade_id) for fill in order.fills]


def test_limits_are_the_venue_s() -> None:
    """Twenty requests in a second, pings among them; then the connection ends."""
    assert BybitSession.request_limit == (20, 1.0)
    to = session("bybit")
    others = [answers(to, '{"op":"ping"}')[1] for _ in range(21)]
    assert others[:20] == [[]] * 20
    assert isinstance(others[20][0], Close)
