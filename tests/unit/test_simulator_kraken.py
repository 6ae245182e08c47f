"""Simulated Kraken: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.exchange import Exchange, Session
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.stream.book import Book, UpdateResult
from mdstream.ticks import BookUpdate
from mdstream.venues.kraken.simulated import CHANNELS, Kraken
from mdstream.venues.providers import provider

NOW_NS = 1_767_625_200_123_456_789


@pytest.fixture
def exchange() -> Exchange:
    return Kraken(Market(1, 1000), ["BTCUSD", "ETHUSD"])


@pytest.fixture
def listing(exchange: Exchange) -> Listing:
    found = exchange.listing("BTC/USD", NOW_NS)
    assert found is not None
    return found


@pytest.fixture
def session(exchange: Exchange) -> Session:
    found = exchange.session("/v2", "", NOW_NS)
    assert found is not None
    return found


def answers(to: Session, request: Any, now_ns: int = NOW_NS) -> tuple[list[Any], list[Action]]:
    """The answers to a request, parsed, and the other actions."""
    actions = to.received(request if isinstance(request, str) else json.dumps(request), now_ns)
    return [json.loads(a.text) for a in actions if isinstance(a, Send)], [a for a in actions if not isinstance(a, Send)]


def request(channel: str, *symbols: Any, method: str = "subscribe", **params: Any) -> dict[str, Any]:
    return {"method": method, "params": {"channel": channel, "symbol": list(symbols), **params}, "req_id": 7}


def update(listing: Listing, number: int) -> BookUpdate:
    """The next change of a book, as our provider reads it."""
    (frame,) = CHANNELS["book"].encode(listing, listing.instrument.book(NOW_NS + number * SECOND_NS // 10))
    (tick,) = provider("kraken").decode(frame.encode())
    assert isinstance(tick, BookUpdate)
    return tick


@pytest.fixture
def kept(listing: Listing) -> Book:
    """Our book after the venue's snapshot."""
    (frame,) = CHANNELS["book"].first(listing, NOW_NS)  # type: ignore[misc]
    (tick,) = provider("kraken").decode(frame.encode())
    book = Book()
    assert isinstance(tick, BookUpdate)
    assert book.apply(tick, NOW_NS) is UpdateResult.TOP
    return book


def test_connection_begins_with_the_system_s_status(session: Session) -> None:
    """With an id that fits no signed 64 bits, as the venue's."""
    (status,) = session.opened(NOW_NS)
    assert isinstance(status, Send)
    (data,) = json.loads(status.text)["data"]
    assert data["system"] == "online"
    assert data["connection_id"] > 2**63


def test_each_symbol_is_answered_for_itself(session: Session) -> None:
    """A pair that the venue does not have takes no other with it; the book's snapshot follows its acknowledgement."""
    said, joined = answers(session, request("book", "BTC/USD", "BTC-USD", "FOO/USD", "ETH/USD", depth=25))
    outcomes = [m.get("success", m.get("type")) for m in said]
    assert outcomes == [True, "snapshot", False, False, True, "snapshot"]
    assert [m["result"]["symbol"] for m in said if m.get("success")] == ["BTC/USD", "ETH/USD"]
    assert [(m["error"], m["symbol"]) for m in said if m.get("success") is False] == [
        (f"Currency pair not supported {symbol}", symbol) for symbol in ("BTC-USD", "FOO/USD")
    ]
    assert {m["req_id"] for m in said if "method" in m} == {7}
    heartbeat = CHANNELS["heartbeat"]
    assert [a.topic.channel is heartbeat for a in joined if isinstance(a, Subscribe)] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("foo", "Malformed request"),
        ("[]", "Malformed request"),
        ({"method": "auth"}, "Unsupported method"),
        ({"method": "subscribe"}, "Symbol(s) missing"),
        (request("book"), "Symbol(s) missing"),
        (request("book", 1), "Symbol(s) missing"),
        (request("book", "BTC/USD"), "Subscription depth not supported"),
        (request("book", "BTC/USD", depth=27), "Subscription depth not supported"),
        (request("heartbeat", "BTC/USD"), "Channel not supported heartbeat"),
        (request("ticker", "BTC/USD", event_trigger="foo"), "Channel not supported ticker"),
    ],
)
def test_bad_request_is_refused_as_a_whole(session: Session, text: Any, error: str) -> None:
    """With the reason; nothing is subscribed to."""
    (answer,), actions = answers(session, text)
    assert (answer["success"], answer["error"]) == (False, error)
    assert (actions, session.topics) == ([], {})


def test_second_subscription_is_refused(session: Session) -> None:
    """A new snapshot takes an unsubscription first."""
    book = request("book", "BTC/USD", depth=25)
    answers(session, book)
    assert [m["error"] for m in answers(session, book)[0]] == ["Already subscribed"]
    (ack,), left = answers(session, book | {"method": "unsubscribe"})
    assert (ack["method"], ack["success"]) == ("unsubscribe", True)
    assert [type(action) for action in left] == [Unsubscribe, Unsubscribe]  # with the last one the heartbeats end
    assert [m["error"] for m in answers(session, book | {"method": "unsubscribe"})[0]] == ["Subscription not found"]
    assert [m.get("type") for m in answers(session, book)[0]] == [None, "snapshot"]


def test_ping_is_answered_with_its_id(session: Session) -> None:
    (pong,), _ = answers(session, {"method": "ping", "req_id": 9})
    assert (pong["method"], pong["req_id"], "success" in pong) == ("pong", 9, False)


def test_too_many_requests_are_refused(session: Session) -> None:
    """Twenty in a second; the connection stays."""
    said = [answers(session, {"method": "ping"})[0][0].get("error") for _ in range(21)]
    assert said == [None] * 20 + ["Exceeded msg rate"]


def test_connection_without_subscriptions_is_closed_after_a_minute_of_silence(session: Session) -> None:
    """A subscription, or a ping, keeps it."""
    minute = 60 * SECOND_NS
    assert isinstance(session.tick(NOW_NS + minute, NOW_NS)[0], Close)
    answers(session, {"method": "ping"}, NOW_NS + minute - 1)
    assert session.tick(NOW_NS + minute, NOW_NS) == []
    answers(session, request("trade", "BTC/USD"))
    assert session.tick(NOW_NS + 9 * minute, NOW_NS) == []
    assert isinstance(session.too_slow[-1], Close)


def test_a_lost_update_of_the_best_levels_shows_at_the_next_one(listing: Listing, kept: Book) -> None:
    """By the checksum alone, until a snapshot: no book is published that is not the venue's."""
    update(listing, 1)
    assert kept.apply(update(listing, 2), NOW_NS) is UpdateResult.CROSSED


def test_snapshot_of_a_new_subscription_makes_the_book_right_again(listing: Listing, kept: Book) -> None:
    """As after a reconnect."""
    update(listing, 1)
    kept.apply(update(listing, 2), NOW_NS)
    (frame,) = CHANNELS["book"].first(listing, NOW_NS)  # type: ignore[misc]
    (tick,) = provider("kraken").decode(frame.encode())
    assert isinstance(tick, BookUpdate)
    assert kept.apply(tick, NOW_NS) is UpdateResult.TOP
    assert kept.apply(update(listing, 3), NOW_NS) in (UpdateResult.TOP, UpdateResult.LEVELS)


def test_book_with_a_level_of_more_decimals_than_the_others_is_not_published(listing: Listing) -> None:
    """Its digits are no longer those of the checksum, though the price, cut to the others' decimals, would be."""
    (frame,) = CHANNELS["book"].first(listing, NOW_NS)  # type: ignore[misc]
    price = listing.price(listing.instrument.last_book(NOW_NS).asks[1][0])
    (tick,) = provider("kraken").decode(frame.replace(f'"price":{price}', f'"price":{price}5').encode())
    assert isinstance(tick, BookUpdate)
    assert Book().apply(tick, NOW_NS) is UpdateResult.CROSSED


def test_fills_of_an_order_come_in_one_frame(listing: Listing) -> None:
    """As rows, each with its own id."""
    order = next(o for o in iter(lambda: listing.instrument.order(NOW_NS), None) if len(o.fills) > 1)
    (frame,) = CHANNELS["trade"].encode(listing, order)
    assert [row["trade_id"] for row in json.loads(frame)["data"]] == [fill.trade_id for fill in order.fills]


def test_unchanged_book_is_not_sent(listing: Listing) -> None:
    """The venue sends what changed."""
    book = replace(listing.instrument.book(NOW_NS), bid_changes=[], ask_changes=[])
    assert CHANNELS["book"].encode(listing, book) == []
