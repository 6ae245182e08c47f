"""Simulated OKX: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Close, Send, Subscribe
from mdstream.simulator.market import SECOND_NS
from mdstream.venues.okx.simulated import CHANNELS, OkxSession

TRADES = {"channel": "trades", "instId": "BTC-USDT"}


def subscribe(*args: Any, op: str = "subscribe") -> dict[str, Any]:
    return {"id": "1", "op": op, "args": list(args)}


def test_subscribe_is_acknowledged_for_each_argument() -> None:
    """One answer an argument, with the request's id, the argument and the connection's id; an error stops no other."""
    to, bad = session("okx"), {"channel": "foo", "instId": "BTC-USDT"}
    replies, actions = answers(to, subscribe(TRADES, bad, {"channel": "trades", "instId": "ETH-USDT"}))
    assert [reply.get("code", reply["event"]) for reply in replies] == ["subscribe", "60018", "subscribe"]
    assert len(replies[0].pop("connId")) == 8
    assert replies[0] == {"id": "1", "event": "subscribe", "arg": TRADES}
    assert [a.topic.listing.symbol for a in actions if isinstance(a, Subscribe)] == ["BTC-USDT", "ETH-USDT"]


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
    (reply,), actions = answers(session("okx"), request_)
    assert (reply["event"], reply["code"]) == ("error", code)
    assert reply["msg"].startswith(message)
    assert actions == []


def test_ping_is_answered_in_text() -> None:
    """ping and pong are plain words, not JSON, and cost nothing of the allowance."""
    to = session("okx")
    for _ in range(1000):
        assert to.received("ping", NOW_NS) == [Send("pong")]


def test_idle_connection_is_closed_after_thirty_seconds() -> None:
    """30 s in which the client was sent nothing, no pong either."""
    to = session("okx")
    assert to.tick(NOW_NS + 30 * SECOND_NS - 1, NOW_NS) == []
    assert to.tick(NOW_NS + 30 * SECOND_NS, NOW_NS) == [Close(4004, "No data received in 30s.")]


@pytest.mark.parametrize("channel", ["tickers", "bbo-tbt", "books5", "books"])
def test_new_subscriber_gets_the_present_state(channel: str) -> None:
    """All channels but trades begin with what is now, after the acknowledgement."""
    (ack, state), (joined,) = answers(session("okx"), subscribe({"channel": channel, "instId": "BTC-USDT"}))
    assert ack["event"] == "subscribe"
    assert state["arg"] == ack["arg"]
    assert isinstance(joined, Subscribe)


def test_book_updates_follow_the_snapshot() -> None:
    """books: prevSeqId of the snapshot is -1, of each update the seqId before; applied in turn they give the book."""
    of = listing("okx", "BTC-USDT")
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


def test_limits_are_the_venue_s() -> None:
    """480 requests an hour, then a code of its own; and another for a client that does not read."""
    assert OkxSession.request_limit == (480, 3600.0)
    to = session("okx")
    codes = [answers(to, subscribe(TRADES))[0][0].get("code") for _ in range(481)]
    assert codes == [None] * 480 + ["60014"]
    assert to.too_slow == (Close(4005, "Buffer is full, cannot write data"),)


def test_acknowledgement_repeats_the_argument_and_names_the_connection() -> None:
    """When a channel ends, too; connId is another one for each connection."""
    connections = [session("okx") for _ in range(3)]
    replies = [answers(to, subscribe(TRADES, op="unsubscribe"))[0][0] for to in connections]
    assert len({reply.pop("connId") for reply in replies}) == 3
    assert replies == [{"id": "1", "event": "unsubscribe", "arg": TRADES}] * 3
