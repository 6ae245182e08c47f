"""Simulated Bybit: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdstream.simulator.exchange import Action, Close, Send, Session, Subscribe, Unsubscribe
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.venues.bybit.simulated import CHANNELS, Bybit

NOW_NS = 1_767_625_200_123_456_789
TRADES, TOP, BOOK = "publicTrade.BTCUSDT", "orderbook.1.BTCUSDT", "orderbook.50.BTCUSDT"


def session() -> Session:
    found = Bybit(Market(1, 1000)).session("/v5/public/spot", "", NOW_NS)
    assert found is not None
    return found


def answers(to: Session, request: Any, now_ns: int = NOW_NS) -> tuple[list[Any], list[Action]]:
    """The answers to a request, parsed, and the other actions."""
    actions = to.received(request if isinstance(request, str) else json.dumps(request), now_ns)
    return [json.loads(a.text) for a in actions if isinstance(a, Send)], [a for a in actions if not isinstance(a, Send)]


def request(*args: Any, op: str = "subscribe") -> dict[str, Any]:
    return {"req_id": "7", "op": op, "args": list(args)}


def test_request_is_acknowledged_as_a_whole_and_the_present_state_follows() -> None:
    """One answer with the request's id; then the best orders and the book, but no trade from before."""
    (ack, top, book), joined = answers(session(), request(TRADES, TOP, BOOK))
    assert ack.pop("conn_id")
    assert ack == {"success": True, "ret_msg": "subscribe", "req_id": "7", "op": "subscribe"}
    assert [(m["topic"], m["type"]) for m in (top, book)] == [(TOP, "snapshot"), (BOOK, "snapshot")]
    assert [type(action) for action in joined] == [Subscribe] * 3


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
    to = session()
    (answer,), actions = answers(to, text)
    assert (answer["success"], answer["ret_msg"]) == (False, message)
    assert answer.get("req_id") == ("7" if isinstance(text, dict) else None)
    assert (actions, to.topics) == ([], {})


def test_arguments_of_a_connection_count_together() -> None:
    """At most 21,000 characters, a topic that is subscribed to already counted once."""
    to = session()
    for n in range(105):
        args = [f"orderbook.50.{'C' * 19}{n:03}{letter}USDT" for letter in "ABCDE"]
        answers(to, request(*args), NOW_NS + n * SECOND_NS)
    assert sum(map(len, to.topics)) == 21_000
    later_ns = NOW_NS + 200 * SECOND_NS
    assert answers(to, request(*args), later_ns)[0][0]["success"] is True
    assert answers(to, request(TRADES), later_ns)[0][0]["success"] is False


def test_ping_is_answered_with_the_op_ping() -> None:
    """As the public channels do; without a request's id if it had none."""
    (answer,), _ = answers(session(), '{"op":"ping"}')
    assert (answer["success"], answer["op"], answer["ret_msg"], "req_id" in answer) == (True, "ping", "pong", False)


def test_a_client_that_says_nothing_for_ten_minutes_is_closed() -> None:
    """Whatever it was sent; a ping keeps the connection."""
    to, minutes = session(), 60 * SECOND_NS
    assert isinstance(to.tick(NOW_NS + 10 * minutes, NOW_NS + 10 * minutes)[0], Close)
    answers(to, '{"op":"ping"}', NOW_NS + 9 * minutes)
    assert to.tick(NOW_NS + 10 * minutes, NOW_NS) == []


def test_too_many_requests_end_the_connection() -> None:
    """Twenty in a second."""
    to = session()
    for _ in range(20):
        assert answers(to, '{"op":"ping"}')[1] == []
    assert isinstance(answers(to, '{"op":"ping"}')[1][0], Close)


def test_unsubscribe_ends_a_topic() -> None:
    """What is not subscribed to is acknowledged all the same."""
    to = session()
    answers(to, request(TRADES))
    assert [type(action) for action in answers(to, request(TRADES, op="unsubscribe"))[1]] == [Unsubscribe]
    (ack,), actions = answers(to, request(TRADES, op="unsubscribe"))
    assert (ack["success"], ack["op"], actions) == (True, "unsubscribe", [])


def test_fills_of_an_order_come_in_one_frame() -> None:
    """As rows, each with its own id."""
    listing = Bybit(Market(1, 1000)).listing("BTCUSDT", NOW_NS)
    assert listing is not None
    order = next(o for o in iter(lambda: listing.instrument.order(NOW_NS), None) if len(o.fills) > 1)
    (frame,) = CHANNELS["publicTrade"].encode(listing, order)
    assert [row["i"] for row in json.loads(frame)["data"]] == [str(fill.trade_id) for fill in order.fills]
