"""Simulated Binance: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Action, Close, Ping, Subscribe, Unsubscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.market import SECOND_NS
from mdstream.ticks import TradeTick
from mdstream.venues.binance.simulated import COMBINED, RAW
from mdstream.venues.providers import provider


def answer(to: Session, request: Any) -> tuple[Any, list[Action]]:
    """The only answer to a request, and the other actions."""
    (found,), others = answers(to, request)
    return found, others


def names(actions: list[Action]) -> list[str]:
    return [
        f"{a.topic.listing.symbol} {a.topic.channel.kind.value}"
        for a in actions
        if isinstance(a, Subscribe | Unsubscribe)
    ]


def test_subscribe_is_acknowledged_then_served() -> None:
    """The answer carries the request's id and comes before any data; asking again subscribes to nothing twice."""
    to = session("binance")
    request = {"method": "SUBSCRIBE", "params": ["btcusdt@trade", "ethusdt@bookTicker"], "id": "a1"}
    reply, actions = answer(to, request)
    assert reply == {"result": None, "id": "a1"}
    assert names(actions) == ["BTCUSDT trade", "ETHUSDT quote"]
    assert answer(to, request) == (reply, [])


@pytest.mark.parametrize(
    "stream",
    ["btcusdt@kline_1m", "btcusdt@depth@100ms", "BTCUSDT@trade", "btcusdt", "btcusdt@depth7", "!miniTicker@arr"],
)
def test_unknown_stream_is_acknowledged_and_silent(stream: str) -> None:
    """The venue takes any name, lists it, and never sends anything for one that does not exist."""
    to = session("binance")
    assert answer(to, {"method": "SUBSCRIBE", "params": [stream], "id": 1}) == ({"result": None, "id": 1}, [])
    assert answer(to, {"method": "LIST_SUBSCRIPTIONS", "id": 2}) == ({"result": [stream], "id": 2}, [])


def test_unsubscribe_ends_the_stream() -> None:
    """What was never subscribed to is acknowledged all the same."""
    to = session("binance", query="streams=btcusdt@trade/btcusdt@bookTicker")
    assert names(to.opened(NOW_NS)) == ["BTCUSDT trade", "BTCUSDT quote"]
    reply, actions = answer(to, {"method": "UNSUBSCRIBE", "params": ["btcusdt@trade", "x@trade"], "id": 3})
    assert reply == {"result": None, "id": 3}
    assert names(actions) == ["BTCUSDT trade"]
    assert answer(to, {"method": "LIST_SUBSCRIPTIONS", "id": 4})[0]["result"] == ["btcusdt@bookTicker"]


@pytest.mark.parametrize(
    ("request_", "code", "start"),
    [
        ('{"method":', 3, "Invalid JSON"),
        ([1], 2, "Invalid request: expected an object"),
        ({"method": "FOO", "id": 1}, 2, "Invalid request: unknown variant FOO, expected one of SUBSCRIBE, UNSUBSCRIBE"),
        ({"params": ["btcusdt@trade"], "id": 1}, 2, "Invalid request: missing field `method`"),
        ({"method": "SUBSCRIBE", "params": "btcusdt@trade", "id": 1}, 2, "Invalid request: params"),
        ({"method": "SUBSCRIBE", "params": [1], "id": 1}, 2, "Invalid request: params"),
        (
            {"method": "SUBSCRIBE", "params": [f"a{i}@trade" for i in range(1025)], "id": 1},
            2,
            "Invalid request: more than 1024",
        ),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 1.5}, 2, "Invalid request: request ID"),
        ({"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": "x" * 37}, 2, "Invalid request: request ID"),
        ({"method": "SET_PROPERTY", "params": ["colour", True], "id": 1}, 0, "Unknown property"),
        ({"method": "SET_PROPERTY", "params": ["combined", 1], "id": 1}, 1, "Invalid value type"),
    ],
)
def test_malformed_request_is_an_error(request_: Any, code: int, start: str) -> None:
    """The venue's codes 0 to 3, with the request's id where it has one; nothing is subscribed to."""
    reply, actions = answer(session("binance"), request_)
    assert reply["code"] == code
    assert reply["msg"].startswith(start)
    assert ("id" in reply) == (isinstance(request_, dict) and request_["id"] == 1)
    assert actions == []


def test_sixth_message_in_a_second_closes() -> None:
    """Requests, pings and pongs count together; the sixth within a second ends the connection."""
    to = session("binance")
    for i in range(3):
        assert answer(to, {"method": "LIST_SUBSCRIPTIONS", "id": i})[0] == {"result": [], "id": i}
    assert to.ping_received(NOW_NS) == to.pong_received(b"", NOW_NS) == []
    assert to.received("{}", NOW_NS + SECOND_NS - 1) == [Close(1008, "Too many requests")]
    assert len(to.received("{}", NOW_NS + SECOND_NS)) == 1


def test_combined_property_changes_the_envelope() -> None:
    """On /ws frames come bare; after SET_PROPERTY combined the same streams come in their envelope."""
    to = session("binance", "/ws/btcusdt@trade")
    (subscribed,) = to.opened(NOW_NS)
    assert isinstance(subscribed, Subscribe)
    assert subscribed.topic.channel is RAW["trade"]
    assert answer(to, {"method": "GET_PROPERTY", "params": ["combined"], "id": 1})[0] == {"result": False, "id": 1}
    _, (left, joined) = answer(to, {"method": "SET_PROPERTY", "params": ["combined", True], "id": 2})
    assert left == Unsubscribe(subscribed.topic)
    assert isinstance(joined, Subscribe)
    assert joined.topic.channel is COMBINED["trade"]


def test_server_pings_and_wants_its_pong() -> None:
    """A ping every 20 s; 60 s without its payload echoed end the connection, whatever other pongs came."""
    to, second = session("binance"), SECOND_NS
    assert to.tick(NOW_NS + 19 * second, 0) == []
    (ping,) = to.tick(NOW_NS + 20 * second, 0)
    assert isinstance(ping, Ping)
    to.pong_received(ping.payload, NOW_NS + 21 * second)
    for i in range(22, 101):
        to.pong_received(b"unsolicited", NOW_NS + i * second)
        assert not any(isinstance(a, Close) for a in to.tick(NOW_NS + i * second, 0))
    assert to.tick(NOW_NS + 101 * second, 0) == [Close(1008, "Pong timeout")]


def test_connection_ends_after_a_day() -> None:
    """Binance disconnects after 24 hours."""
    assert session("binance").tick(NOW_NS + 24 * 3600 * SECOND_NS, 0) == [Close(1001, "24 hours are over")]


def test_aggregate_frames_cover_every_fill() -> None:
    """f..l of one aggTrade begins where the one before ended, and `a` counts up by one."""
    of, read = listing("binance", "BTCUSDT"), provider("binance")
    orders = [of.instrument.order(NOW_NS) for _ in range(100)]
    frames = [text for order in orders for text in COMBINED["aggTrade"].encode(of, order)]
    ticks = [read.decode(text.encode())[0] for text in frames]
    assert [t.trade_id for t in ticks if isinstance(t, TradeTick)] == [str(1000 + i) for i in range(len(frames))]
    data = [json.loads(text)["data"] for text in frames]
    assert list(data[0]) == ["e", "E", "s", "a", "p", "q", "f", "l", "T", "m", "M"]
    assert data[0]["f"] == 1000
    assert all(after["f"] == before["l"] + 1 for before, after in pairwise(data))
    assert data[-1]["l"] == orders[-1].fills[-1].trade_id


def test_raw_frames_are_the_data_alone() -> None:
    """/ws sends what /stream puts into its envelope."""
    of = listing("binance", "BTCUSDT")
    order = of.instrument.order(NOW_NS)
    bare, wrapped = (channels["trade"].encode(of, order) for channels in (RAW, COMBINED))
    assert [json.loads(text) for text in bare] == [json.loads(text)["data"] for text in wrapped]


def test_too_slow_client_is_closed() -> None:
    """A client that does not read gets a close frame at last."""
    assert session("binance").too_slow == (Close(1008, "The client reads too slowly"),)
