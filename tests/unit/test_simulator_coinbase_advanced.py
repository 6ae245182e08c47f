"""Coinbase Advanced Trade: the simulated venue's rules, and what is particular about its frames."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.errors import SymbolError
from mdstream.simulator.actions import Close, Subscribe
from mdstream.simulator.market import SECOND_NS
from mdstream.ticks import BookUpdate, TradeTick
from mdstream.venues.coinbase_advanced.simulated import CHANNELS
from mdstream.venues.feed import Route
from mdstream.venues.providers import provider

ADVANCED = provider("coinbase_advanced")
HEAD = {"channel": "market_trades", "timestamp": "2026-01-05T15:00:00.26Z", "sequence_num": 3}


def subscribe(channel: str, *products: str, kind: str = "subscribe") -> dict[str, Any]:
    return {"type": kind, "channel": channel, "product_ids": list(products)}


def trade(number: int, product: str) -> dict[str, str]:
    price = {"price": "1.5", "size": "2", "side": "BUY", "time": "2026-01-05T15:00:00Z"}
    return {"trade_id": str(number), "product_id": product, **price}


def frame(*events: Any, channel: str = "market_trades") -> bytes:
    return json.dumps({**HEAD, "channel": channel, "events": events}, separators=(",", ":")).encode()


def test_an_acknowledgement_states_all_subscriptions() -> None:
    """Those before it, too; heartbeats are named by themselves."""
    to = session("coinbase_advanced")
    answers(to, subscribe("level2", "BTC-USD", "ETH-USD"))
    (ack,), joined = answers(to, {"type": "subscribe", "channel": "heartbeats"})
    assert ack["events"] == [{"subscriptions": {"level2": ["BTC-USD", "ETH-USD"], "heartbeats": ["heartbeats"]}}]
    assert len(joined) == 1
    (ack,), _ = answers(to, subscribe("level2", "ETH-USD", kind="unsubscribe"))
    assert ack["events"] == [{"subscriptions": {"level2": ["BTC-USD"], "heartbeats": ["heartbeats"]}}]


def test_trades_begin_with_a_snapshot_that_is_no_news() -> None:
    """Of the last order, the newest first; decoded to nothing."""
    (_, first), (joined,) = answers(session("coinbase_advanced"), subscribe("market_trades", "BTC-USD"))
    assert first["events"][0]["type"] == "snapshot"
    assert isinstance(joined, Subscribe)
    assert list(ADVANCED.decode(json.dumps(first).encode())) == []


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("no JSON", "malformed message"),
        ({"type": "hello"}, "type is invalid"),
        (subscribe("l2_data", "BTC-USD"), "channel is invalid"),
        ({"type": "subscribe", "channels": ["level2"], "product_ids": ["BTC-USD"]}, "channel is invalid"),
        (subscribe("level2"), "product_ids is invalid"),
        (subscribe("user"), "authentication failure"),
        (subscribe("ticker", "BTC-USD", "btc_usd"), "btc_usd is not a valid product"),
    ],
)
def test_what_the_venue_does_not_have_is_refused_as_a_whole(request_: Any, message: str) -> None:
    """A channel is asked for by its own name, one in each request."""
    to = session("coinbase_advanced")
    assert answers(to, request_) == ([{"type": "error", "message": message}], [])
    assert to.topics == {}


def test_a_connection_without_a_subscription_is_closed() -> None:
    """After five seconds; one that has subscribed, to a silent channel even, is not."""
    to = session("coinbase_advanced")
    assert to.tick(NOW_NS + 4 * SECOND_NS, 0) == []
    assert isinstance(to.tick(NOW_NS + 5 * SECOND_NS, 0)[0], Close)
    (ack,), _ = answers(to, subscribe("status"), NOW_NS + 4 * SECOND_NS)
    assert ack["channel"] == "subscriptions"
    assert to.tick(NOW_NS + 5 * SECOND_NS, 0) == []


def test_the_side_is_the_makers() -> None:
    """As at Exchange: a taker who buys hits a SELL; the fills of an order come in the order of their ids."""
    of = listing("coinbase_advanced", "BTC-USD")
    for _ in range(50):
        order = of.instrument.order(NOW_NS)
        (text,) = CHANNELS["market_trades"].encode(of, order)
        (event,) = json.loads(text)["events"]
        assert {row["side"] for row in event["trades"]} == {"SELL" if order.buy else "BUY"}
        ticks = [tick for tick in ADVANCED.decode(text.encode()) if isinstance(tick, TradeTick)]
        assert [tick.first_id for tick in ticks] == [fill.trade_id for fill in order.fills]
        assert {tick.side for tick in ticks} == {"buy" if order.buy else "sell"}


def test_a_frame_of_several_products_is_split_by_product() -> None:
    """Each part is a frame of its own, with all trades of its product; the head is that of the frame."""
    rows = [trade(1, "BTC-USD"), trade(5, "ETH-USD"), trade(2, "BTC-USD")]
    whole = frame({"type": "update", "trades": rows}, {"type": "update", "trades": [trade(6, "ETH-USD")]})
    parts = ADVANCED.split(whole)
    assert [ADVANCED.route(part) for part in parts] == [Route(b"BTCUSD", b"trade"), Route(b"ETHUSD", b"trade")]
    assert [tick.trade_id for part in parts for tick in ADVANCED.decode(part) if isinstance(tick, TradeTick)] == [
        *("1", "2"),
        *("5", "6"),
    ]
    assert all(json.loads(part).items() >= HEAD.items() for part in parts)
    spaced = json.dumps(json.loads(whole)).encode()
    assert [json.loads(part) for part in ADVANCED.split(spaced)] == [json.loads(part) for part in parts]


def test_books_and_tickers_of_several_products_are_split_too() -> None:
    """A book's event is kept as it is; a snapshot stays one."""
    level = {"side": "offer", "event_time": "1970-01-01T00:00:00Z", "price_level": "2.50", "new_quantity": "1"}
    books = [{"type": "snapshot", "product_id": p, "updates": [level]} for p in ("BTC-USD", "ETH-USD")]
    ticks = [tick for part in ADVANCED.split(frame(*books, channel="l2_data")) for tick in ADVANCED.decode(part)]
    assert [(t.symbol, t.asks, t.whole) for t in ticks if isinstance(t, BookUpdate)] == [
        ("BTCUSD", [(25_000_000_000, 1.0)], True),
        ("ETHUSD", [(25_000_000_000, 1.0)], True),
    ]
    tickers = [{"product_id": p, "best_bid": "1", "best_ask": "2"} for p in ("BTC-USD", "ETH-USD", "BTC-USD")]
    parts = ADVANCED.split(frame({"type": "update", "tickers": tickers}, channel="ticker"))
    assert [len(ADVANCED.decode(part)) for part in parts] == [2, 1]


@pytest.mark.parametrize(
    "whole",
    [
        frame({"type": "update", "trades": [trade(1, "BTC-USD"), trade(2, "BTC-USD")]}),
        frame({"type": "update", "trades": [trade(1, "BTC-USD"), {"product_id": 7}]}),
        frame({"type": "update", "trades": [trade(1, "BTC-USD"), trade(2, "ETH-USD")]})[:-1],
        frame({"type": "update", "rows": [trade(1, "BTC-USD"), trade(2, "ETH-USD")]}),
        frame({"subscriptions": {"level2": ["BTC-USD", "ETH-USD"]}}, channel="subscriptions"),
    ],
)
def test_what_needs_no_splitting_or_cannot_be_split_stays_whole(whole: bytes) -> None:
    """Byte for byte; what is wrong with it is a reader's to say."""
    assert list(ADVANCED.split(whole)) == [whole]


def test_a_symbol_that_is_removed_leaves_the_heartbeats() -> None:
    """They are those of the whole connection."""
    frames = [json.loads(str(request.frame)) for request in ADVANCED.unsubscribe(["BTCUSD"])]
    assert [(f["type"], f["channel"]) for f in frames] == [
        ("unsubscribe", channel) for channel in ("market_trades", "ticker", "level2")
    ]


def test_products_in_usdc_that_are_answered_with_usd_are_refused() -> None:
    """Or BTCUSDC would have the trades of BTCUSD; two have their own."""
    assert (ADVANCED.to_venue("USDTUSDC"), ADVANCED.to_venue("eurc-usdc")) == ("USDT-USDC", "EURC-USDC")
    with pytest.raises(SymbolError, match="in USDC only"):
        ADVANCED.to_venue("BTC-USDC")
