"""Simulated Massive: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Close, Send, Subscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES
from mdstream.venues.massive.simulated import CHANNELS


def request(params: Any, action: str = "subscribe") -> dict[str, Any]:
    return {"action": action, "params": params}


def statuses(to: Session, text: Any) -> list[str]:
    """Of all messages that a request is answered with."""
    said, _ = answers(to, text)
    return [message.get("status", message["ev"]) for messages in said for message in messages]


@pytest.fixture
def to() -> Session:
    found = session("massive")
    assert statuses(found, request("key", "auth")) == ["auth_success"]
    return found


def test_connection_begins_with_its_status() -> None:
    """Before any login."""
    (hello,) = session("massive").opened(NOW_NS)
    assert isinstance(hello, Send)
    assert [message["status"] for message in json.loads(hello.text)] == ["connected"]


def test_each_subscription_is_acknowledged_for_itself_in_one_frame(to: Session) -> None:
    """Also names that do not exist, and channels that are not simulated: they stay silent."""
    (acks, quote), joined = answers(to, request("T.AAPL,Q.AAPL,A.AAPL,T.NOSUCHNAME,T"))
    assert [message["message"] for message in acks] == [
        f"subscribed to: {name}" for name in ("T.AAPL", "Q.AAPL", "A.AAPL", "T.NOSUCHNAME", "T")
    ]
    assert [message["ev"] for message in quote] == ["Q"]
    assert len([action for action in joined if isinstance(action, Subscribe)]) == 2
    (acks,), left = answers(to, request("T.AAPL", "unsubscribe"))
    assert ([message["message"] for message in acks], len(left)) == (["unsubscribed to: T.AAPL"], 1)


@pytest.mark.parametrize("text", ["foo", "[]", request("T.AAPL", "listen"), request(None), {"action": "subscribe"}])
def test_bad_request_is_an_error_and_the_connection_stays(to: Session, text: Any) -> None:
    """Nothing is subscribed to."""
    assert statuses(to, text) == ["error"]
    assert to.topics == {}


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (request("T.AAPL"), "auth_required"),
        (request("wrong", "auth"), "auth_failed"),
        (request("", "auth"), "auth_failed"),
    ],
)
def test_nothing_is_granted_without_a_login(text: Any, status: str) -> None:
    """The connection stays, and a later login is accepted."""
    to = session("massive")
    assert statuses(to, text) == [status]
    assert statuses(to, request("key", "auth")) == ["auth_success"]


def test_second_connection_of_a_key_is_refused_late() -> None:
    """After its login and its first acknowledgements; when the first one has ended, it is granted."""
    exchange = EXCHANGES["massive"](Market(1, 1000))
    first, second = (exchange.session("/stocks", "", NOW_NS) for _ in range(2))
    assert first is not None
    assert second is not None
    for each in (first, second):
        assert statuses(each, request("key", "auth")) == ["auth_success"]
    assert statuses(first, request("T.AAPL")) == ["success"]
    said, actions = answers(second, request("T.AAPL"))
    assert [message["status"] for messages in said for message in messages] == ["success", "max_connections"]
    assert [type(action) for action in actions] == [Close]
    first.closed()
    assert statuses(second, request("T.AAPL")) == ["success"]


def test_sizes_are_whole_shares_and_a_fill_is_a_message_of_its_own() -> None:
    """With the exchange and the tape that make its id unique."""
    of = listing("massive", "AAPL")
    order = next(o for o in iter(lambda: of.instrument.order(NOW_NS), None) if len(o.fills) > 1)
    frames = [json.loads(text) for text in CHANNELS["T"].encode(of, order)]
    assert [message["i"] for (message,) in frames] == [str(fill.trade_id) for fill in order.fills]
    assert all(isinstance(message["s"], int) and message["x"] == 4 for (message,) in frames)
