"""Simulated OKX: what it answers, what it sends, and that our provider understands it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mdstream.simulator.exchange import Action, Close, Listing, Send, Session, Subscribe, Unsubscribe
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.ticks import BookTick, QuoteTick, TradeTick
from mdstream.venues.okx.feed import Okx as Provider
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


def test_other_paths_are_not_there() -> None:
    """The business endpoint is not simulated."""
    assert exchange().session("/ws/v5/business", "", NOW_NS) is None


def test_trade_frames_say_what_the_market_said() -> None:
    """Fills of one order at one price come as one trade: tradeId is the last one, count how many, without a hole."""
    of, read, covered = listing(), Provider(), 999
    for _ in range(100):
        order = of.instrument.order(NOW_NS)
        frames = CHANNELS["trades"].encode(of, order)
        assert len(frames) == len(order.merged)
        for text, trade in zip(frames, order.merged, strict=True):
            (row,) = json.loads(text)["data"]
            assert list(row) == ["instId", "tradeId", "px", "sz", "side", "ts", "count", "source", "seqId"]
            assert int(row["tradeId"]) - int(row["count"]) == covered
            covered = int(row["tradeId"])
            (tick,) = read.decode(text.encode())
            assert isinstance(tick, TradeTick)
            assert (tick.symbol, tick.trade_id, tick.count) == ("BTCUSDT", str(trade.trade_id), trade.count)
            assert (tick.price, tick.size) == (price(of, trade.ticks), size(of, trade.lots))
            assert (tick.side, tick.ts_exchange) == ("buy" if order.buy else "sell", MS_NS)


def test_quote_frames_say_what_the_market_said() -> None:
    """bbo-tbt: one level a side, with the venue's time; the symbol is in the argument alone."""
    of = listing()
    top = of.instrument.quote(NOW_NS)
    (text,) = CHANNELS["bbo-tbt"].encode(of, top)
    (row,) = json.loads(text)["data"]
    assert list(row) == ["asks", "bids", "ts", "seqId"]
    assert len(row["asks"][0]) == 4
    (tick,) = Provider().decode(text.encode())
    assert tick == QuoteTick(
        "BTCUSDT",
        price(of, top.bid),
        size(of, top.bid_lots),
        price(of, top.ask),
        size(of, top.ask_lots),
        MS_NS,
        top.update_id,
    )


def test_ticker_frames_say_what_the_market_said() -> None:
    """tickers: the last trade and the top of the book."""
    of = listing()
    of.instrument.order(NOW_NS)
    book, top = of.instrument.book(NOW_NS), of.instrument.top
    (text,) = CHANNELS["tickers"].encode(of, book)
    (row,) = json.loads(text)["data"]
    assert float(row["last"]) == price(of, of.instrument.last.ticks)
    assert float(row["low24h"]) <= float(row["last"]) <= float(row["high24h"])
    (tick,) = Provider().decode(text.encode())
    assert isinstance(tick, QuoteTick)
    assert (tick.bid, tick.ask, tick.ts_exchange) == (price(of, top.bid), price(of, top.ask), MS_NS)


def test_five_level_books_say_what_the_market_said() -> None:
    """books5: five levels a side, whole each time."""
    of = listing()
    book = of.instrument.book(NOW_NS)
    (text,) = CHANNELS["books5"].encode(of, book)
    (tick,) = Provider().decode(text.encode())
    assert isinstance(tick, BookTick)
    assert tick.bids == [(price(of, ticks), size(of, lots)) for ticks, lots in book.bids[:5]]
    assert tick.asks == [(price(of, ticks), size(of, lots)) for ticks, lots in book.asks[:5]]
    assert (tick.update_id, tick.ts_exchange) == (book.update_id, MS_NS)


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


def test_incremental_books_are_understood_by_the_provider() -> None:
    """The provider reads past them or reads them, but knows them."""
    of = listing()
    first = CHANNELS["books"].first
    assert first is not None
    for text in (*first(of, NOW_NS), *CHANNELS["books"].encode(of, of.instrument.book(NOW_NS))):
        assert Provider().decode(text.encode()) is not None


def test_too_slow_client_is_closed() -> None:
    """OKX's close code for a client that does not read."""
    assert session().too_slow() == [Close(4005, "Buffer is full, cannot write data")]


def price(of: Listing, ticks: int) -> float:
    return float(ticks / 10**of.instrument.price_decimals)


def size(of: Listing, lots: int) -> float:
    return float(lots / 10**of.instrument.size_decimals)
