"""Simulated Coinbase Exchange: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Close, Subscribe, Unsubscribe
from mdstream.simulator.listing import HeartbeatEvent
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import send_json
from mdstream.venues.coinbase.simulated import CHANNELS, CoinbaseSession


def subscribe(*channels: Any, products: tuple[str, ...] = ("BTC-USD",), kind: str = "subscribe") -> dict[str, Any]:
    return {"type": kind, "product_ids": list(products), "channels": list(channels)}


def test_subscribe_is_answered_with_all_subscriptions() -> None:
    """`subscriptions` lists what the connection has by now, then come the first frames of the new channels."""
    to = session("coinbase")
    assert answers(to, subscribe("heartbeat"))[0] == [
        {"type": "subscriptions", "channels": [{"name": "heartbeat", "product_ids": ["BTC-USD"]}]}
    ]
    replies, actions = answers(to, subscribe("matches", "level2_batch", products=("BTC-USD", "ETH-USD")))
    assert [reply["type"] for reply in replies] == ["subscriptions", "last_match", "last_match", "snapshot", "snapshot"]
    assert replies[0]["channels"][1] == {"name": "matches", "product_ids": ["BTC-USD", "ETH-USD"]}
    assert [type(action) for action in actions] == [Subscribe] * 4


def test_channel_may_bring_its_own_products() -> None:
    """A channel is a name, or an object with a name and products."""
    (reply,), _ = answers(session("coinbase"), subscribe("heartbeat", {"name": "ticker", "product_ids": ["ETH-USD"]}))
    assert reply["channels"] == [
        {"name": "heartbeat", "product_ids": ["BTC-USD"]},
        {"name": "ticker", "product_ids": ["ETH-USD"]},
    ]


@pytest.mark.parametrize(
    ("request_", "message", "reason"),
    [
        ("{", "Malformed JSON", None),
        ("[]", "Failed to subscribe", "type has to be subscribe or unsubscribe"),
        ({"type": "foo"}, "Failed to subscribe", "type has to be subscribe or unsubscribe"),
        (subscribe(), "Failed to subscribe", "channels has to be a list of channels"),
        (subscribe(1), "Failed to subscribe", "a channel has to be a name or an object with one"),
        (subscribe("matches", products=()), "Failed to subscribe", "no product_ids for matches"),
        (subscribe("foo"), "Failed to subscribe", "foo is not a valid channel"),
        (subscribe("level2"), "Failed to subscribe", "level2 requires authentication"),
        (subscribe("matches", products=("BTC-USD", "BTCUSD")), "Failed to subscribe", "BTCUSD is not a valid product"),
        (
            subscribe("matches", kind="unsubscribe") | {"product_ids": 1},
            "Failed to unsubscribe",
            "product_ids has to be a list of products",
        ),
    ],
)
def test_bad_request_is_an_error(request_: Any, message: str, reason: str | None) -> None:
    """The venue's error object; a request with one bad product is refused whole."""
    (reply,), actions = answers(session("coinbase"), request_)
    assert reply == {"type": "error", "message": message} | ({"reason": reason} if reason else {})
    assert actions == []


def test_eleventh_subscription_is_refused() -> None:
    """Ten to one product and channel; each repeats last_match."""
    to = session("coinbase")
    for _ in range(10):
        assert [reply["type"] for reply in answers(to, subscribe("matches"))[0]] == ["subscriptions", "last_match"]
    assert answers(to, subscribe("matches"))[0][0]["type"] == "error"


def test_silent_client_is_closed_after_five_seconds() -> None:
    """A subscribe within 5 s, or the server closes; one that fails does not count."""
    to = session("coinbase")
    answers(to, subscribe("foo"))
    assert to.tick(NOW_NS + 5 * SECOND_NS - 1, NOW_NS) == []
    assert to.tick(NOW_NS + 5 * SECOND_NS, NOW_NS) == [Close(1008, "No subscribe message within 5 seconds")]
    answers(to, subscribe("heartbeat"))
    assert to.tick(NOW_NS + 60 * SECOND_NS, NOW_NS) == []


def test_unsubscribe_ends_products_or_the_whole_channel() -> None:
    """Without products a channel ends for all of them; the answer lists what is left."""
    to = session("coinbase")
    answers(to, subscribe("matches", "ticker", products=("BTC-USD", "ETH-USD")))
    (reply,), actions = answers(to, subscribe("matches", products=("ETH-USD",), kind="unsubscribe"))
    assert reply["channels"][0] == {"name": "matches", "product_ids": ["BTC-USD"]}
    assert [type(action) for action in actions] == [Unsubscribe]
    (reply,), actions = answers(to, {"type": "unsubscribe", "channels": ["ticker"]})
    assert reply["channels"] == [{"name": "matches", "product_ids": ["BTC-USD"]}]
    assert len(actions) == 2


def test_ticker_follows_the_match_with_the_takers_side() -> None:
    """The ticker of a trade names its taker's side, where the match names the maker's."""
    of = listing("coinbase", "BTC-USD")
    order = of.instrument.order(NOW_NS)
    match = json.loads(CHANNELS["matches"].encode(of, order)[-1])
    (text,) = CHANNELS["ticker"].encode(of, order)
    ticker = json.loads(text)
    assert ticker["trade_id"] == match["trade_id"]
    assert {ticker["side"], match["side"]} == {"buy", "sell"}


def test_last_match_is_the_last_trade() -> None:
    """Its id is the one before the next match's, also before anything traded."""
    of, first = listing("coinbase", "BTC-USD"), CHANNELS["matches"].first
    assert first is not None
    assert json.loads(*first(of, NOW_NS))["trade_id"] == 999
    order = of.instrument.order(NOW_NS)
    last, match = json.loads(*first(of, NOW_NS)), json.loads(CHANNELS["matches"].encode(of, order)[-1])
    assert last == match | {"type": "last_match"}


def test_heartbeat_has_the_last_trade_id() -> None:
    """What a client compares with to find a dropped match."""
    of = listing("coinbase", "BTC-USD")
    order = of.instrument.order(NOW_NS)
    (text,) = CHANNELS["heartbeat"].encode(of, HeartbeatEvent(NOW_NS))
    message = json.loads(text)
    assert message["last_trade_id"] == order.fills[-1].trade_id
    assert message["time"] == "2026-01-05T15:00:00.123456Z"


def test_limits_are_the_venue_s() -> None:
    """100 messages a second. Before it closes, it says why: ErrSlowConsume to a client that does not read."""
    assert CoinbaseSession.request_limit == (100, 1.0)
    to = session("coinbase")
    assert [answers(to, subscribe("status"))[1] for _ in range(101)] == [[]] * 100 + [[CoinbaseSession.too_many[-1]]]
    reasons = {"Too many requests": CoinbaseSession.too_many, "ErrSlowConsume": CoinbaseSession.too_slow}
    for reason, actions in reasons.items():
        assert actions == (send_json({"type": "error", "message": reason}), Close(1008, reason))
