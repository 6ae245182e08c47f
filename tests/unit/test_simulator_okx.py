"""Simulated OKX: what it answers, what it sends, and that our provider understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdstream.simulator.exchange import Action, Close, Listing, Send, Session, Subscribe, Unsubscribe
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.venues.okx.simulated import CHANNELS, Okx

NOW_NS = 1_767_625_200_123_456_789
MS_NS = 1_767_625_200_123_000_000
TRADES = {"channel": "trades", "instId": "BTC-USDT"}


def exchange() -> Okx:
    return Okx(Market(1, 1000))


def session() -> Session:
    found = exchange().session("/ws/v5/public", "", NOW_NS)
    assert found is not None
    return found


def listing() -> Listing:
    found = exchange().listing("BTC-USDT", NOW_NS)
    assert found is not None
    return found


def answers(to: Session, request: Any) -> tuple[list[Any], list[Action]]:
    """The replies, parsed and without their connection's id, and the other actions."""
    actions = to.received(request if isinstance(request, str) else json.dumps(request), NOW_NS)
    replies = [json.loads(action.text) for action in actions if isinstance(action, Send)]
    for reply in replies:
        reply.pop("connId", None)
    return replies, [action for action in actions if not isinstance(action, Send)]


def subscribe(*args: Any, op: str = "subscribe") -> dict[str, Any]:
    return {"id": "1", "op": op, "args": list(args)}


def test_subscribe_is_acknowledged_for_each_argument() -> None:
    """One answer an argument, with the request's id, the argument and the connection's id; an error stops no other."""
    to, bad = session(), {"channel": "foo", "instId": "BTC-USDT"}
    replies, actions = answers(to, subscribe(TRADES, bad, {"channel": "trades", "instId": "ETH-USDT"}))
    assert [reply.get("code", reply["event"]) for reply in replies] == ["subscribe", "60018", "subscribe"]
    assert replies[0] == {"id": "1", "event": "subscribe", "arg": TRADES}
    assert [a.topic.listing.symbol for a in actions if isinstance(a, Subscribe)] == ["BTC-USDT", "ETH-USDT"]


def test_acknowledgement_names_the_connection() -> None:
    """connId: eight hexadecimal digits, another one for each connection."""
    venue = exchange()
    ids = set()
    for _ in range(3):
        to = venue.session("/ws/v5/public", "", NOW_NS)
        assert to is not None
        (ack, _) = to.received(json.dumps(subscribe(TRADES)), NOW_NS)
        assert isinstance(ack, Send)
        ids.add(json.loads(ack.text)["connId"])
    assert {len(i) for i in ids} == {8}
    assert len(ids) == 3


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ("foo", "60012", "Illegal request: foo"),
        ("[]", "60012", "Illegal request: []"),
        ({"op": "foo", "args": [TRADES]}, "60012", 'Illegal request: {"op": "foo"'),
        ({"op": "subscribe", "args": []}, "60013", "Invalid args"),
        ({"op": "subscribe", "args": TRADES}, "60013", "Invalid args"),
        ({"op": "subscribe", "args": ["trades"]}, "60013", "Invalid args"),
        ({"op": "subscribe", "args": [TRADES] * 2000}, "60013", "Invalid args"),
        (
            subscribe({"channel": "foo", "instId": "BTC-USDT"}),
            "60018",
            "Wrong URL or channel:foo,instId:BTC-USDT doesn't exist.",
        ),
        (
            subscribe({"channel": "trades", "instId": "BTCUSDT"}),
            "60018",
            "Wrong URL or channel:trades,instId:BTCUSDT doesn't",
        ),
        (subscribe({"channel": "trades"}), "60018", "Wrong URL or channel:trades,instId:None doesn't exist."),
        (
            subscribe({"channel": "trades-all", "instId": "BTC-USDT"}),
            "60008",
            "The current WebSocket endpoint does not",
        ),
        (subscribe({"channel": "candle1m", "instId": "BTC-USDT"}), "60008", "The current WebSocket endpoint does not"),
    ],
)
def test_bad_request_is_an_error(request_: Any, code: str, message: str) -> None:
    """The venue's codes for what is malformed, unknown, or served elsewhere; nothing is subscribed to."""
    (reply,), actions = answers(session(), request_)
    assert (reply["event"], reply["code"]) == ("error", code)
    assert reply["msg"].startswith(message)
    assert actions == []


def test_requests_have_a_limit_an_hour() -> None:
    """480 requests; the next one is refused, and an hour later is not."""
    to, request = session(), json.dumps(subscribe(TRADES))
    for _ in range(480):
        assert "60014" not in str(to.received(request, NOW_NS))
    assert "60014" in str(to.received(request, NOW_NS))
    assert "60014" not in str(to.received(request, NOW_NS + 3600 * SECOND_NS))


def test_ping_is_answered_in_text() -> None:
    """ping and pong are plain words, not JSON, and cost nothing of the allowance."""
    to = session()
    for _ in range(1000):
        assert to.received("ping", NOW_NS) == [Send("pong")]


def test_idle_connection_is_closed_after_thirty_seconds() -> None:
    """30 s in which the client was sent nothing, no pong either."""
    to = session()
    assert to.tick(NOW_NS + 30 * SECOND_NS - 1, NOW_NS) == []
    assert to.tick(NOW_NS + 30 * SECOND_NS, NOW_NS) == [Close(4004, "No data received in 30s.")]


def test_unsubscribe_ends_the_channel() -> None:
    """What is not subscribed to is acknowledged all the same."""
    to = session()
    answers(to, subscribe(TRADES))
    replies, actions = answers(to, subscribe(TRADES, op="unsubscribe"))
    assert replies == [{"id": "1", "event": "unsubscribe", "arg": TRADES}]
    assert [type(action) for action in actions] == [Unsubscribe]
    assert answers(to, subscribe(TRADES, op="unsubscribe")) == (replies, [])


@pytest.mark.parametrize("channel", ["tickers", "bbo-tbt", "books5", "books"])
def test_new_subscriber_gets_the_present_state(channel: str) -> None:
    """All channels but trades begin with what is now, after the acknowledgement."""
    (ack, state), (joined,) = answers(session(), subscribe({"channel": channel, "instId": "BTC-USDT"}))
    assert ack["event"] == "subscribe"
    assert state["arg"] == ack["arg"]
    assert isinstance(joined, Subscribe)


def test_book_updates_follow_the_snapshot() -> None:
    """books: prevSeqId of the snapshot is -1, of each update the seqId before; applied in turn they give the book."""
    of = listing()
    first = CHANNELS["books"].first
    assert first is not None
    (text,) = first(of, NOW_NS)
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    seen = -1
    books = [of.instrument.book(NOW_NS + i) for i in range(5)]
    frames = [text, *(update for book in books for update in CHANNELS["books"].encode(of, book))]
    for i, message in enumerate(map(json.loads, frames)):
        (row,) = message["data"]
        assert message["action"] == ("update" if i else "snapshot")
        assert (row["prevSeqId"], row["checksum"]) == (seen, 0)
        seen = row["seqId"]
        for side, levels in ((bids, row["bids"]), (asks, row["asks"])):
            side.update({level[0]: level[1] for level in levels})
            for level in levels:
                if level[1] == "0":
                    del side[level[0]]
    assert bids == {of.price(ticks): of.size(lots) for ticks, lots in books[-1].bids}
    assert asks == {of.price(ticks): of.size(lots) for ticks, lots in books[-1].asks}


def test_too_slow_client_is_closed() -> None:
    """OKX's close code for a client that does not read."""
    assert session().too_slow() == [Close(4005, "Buffer is full, cannot write data")]
