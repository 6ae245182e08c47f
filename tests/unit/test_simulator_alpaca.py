"""Simulated Alpaca: what it answers and sends, beyond what the conformance tests hold every venue to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.simulator.actions import Close, Subscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.requests import send_json
from mdstream.simulator.venues import EXCHANGES
from mdstream.venues.alpaca.simulated import CHANNELS
from mdstream.venues.providers import provider


def auth(key: str = "key", secret: str = "secret") -> dict[str, Any]:
    return {"action": "auth", "key": key, "secret": secret}


def subscribe(*symbols: Any, kind: str = "trades", action: str = "subscribe") -> dict[str, Any]:
    return {"action": action, kind: list(symbols)}


def logged_in(key: str = "key", venue: str = "alpaca", path: str | None = None) -> Session:
    to = session(venue, path)
    assert answers(to, auth(key))[0] == [[{"T": "success", "msg": "authenticated"}]]
    return to


def codes(to: Session, request: Any) -> list[int]:
    """Of the errors that a request is answered with; it leads to nothing else."""
    said, actions = answers(to, request)
    assert actions == []
    return [message.get("code") for (message,) in said]


def test_connection_begins_with_a_greeting() -> None:
    """Before any login."""
    assert session("alpaca").opened(NOW_NS) == [send_json([{"T": "success", "msg": "connected"}])]


def test_subscription_states_all_there_is_after_each_change() -> None:
    """Also names that do not exist, which stay silent; corrections and cancels come with trades."""
    to = logged_in()
    said, joined = answers(to, subscribe("AAPL", "NOSUCHNAME"))
    ((state,),) = said
    assert (state["T"], state["trades"], state["quotes"]) == ("subscription", ["AAPL", "NOSUCHNAME"], [])
    assert state["corrections"] == state["cancelErrors"] == state["trades"]
    assert [action.topic.listing.symbol for action in joined if isinstance(action, Subscribe)] == ["AAPL"] * 3
    ((state,), *_), _ = answers(to, subscribe("MSFT", kind="quotes"))
    assert (state["trades"], state["quotes"]) == (["AAPL", "NOSUCHNAME"], ["MSFT"])
    ((state,),), _ = answers(to, subscribe("AAPL", action="unsubscribe"))
    assert (state["trades"], state["quotes"]) == (["NOSUCHNAME"], ["MSFT"])


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("foo", 400),
        ("[]", 400),
        ({"action": "listen"}, 400),
        ({"action": "subscribe"}, 400),
        (subscribe(1), 400),
        (auth(), 403),
    ],
)
def test_bad_request_is_an_error_and_the_connection_stays(request_: Any, code: int) -> None:
    """By its code; nothing is subscribed to."""
    to = logged_in()
    assert codes(to, request_) == [code]
    assert to.topics == {}


@pytest.mark.parametrize(
    ("request_", "code"),
    [(subscribe("AAPL"), 401), (auth(secret="wrong"), 402), (auth(key=""), 402), ({"action": "auth"}, 402)],
)
def test_nothing_is_granted_without_a_login(request_: Any, code: int) -> None:
    """The connection stays, and a later login is accepted."""
    to = session("alpaca")
    assert codes(to, request_) == [code]
    assert answers(to, auth())[0][0][0]["T"] == "success"


def test_who_does_not_log_in_is_closed_after_ten_seconds() -> None:
    """With an error first; who does may be silent for hours."""
    to, later_ns = session("alpaca"), NOW_NS + 10 * SECOND_NS
    assert to.tick(later_ns - 1, NOW_NS) == []
    error, close = to.tick(later_ns, NOW_NS)
    assert json.loads(error.text)[0]["code"] == 404  # type: ignore[union-attr]
    assert isinstance(close, Close)
    assert logged_in().tick(later_ns * 2, NOW_NS) == []


def test_free_plan_has_thirty_symbols_and_no_sip() -> None:
    """Trades and quotes of a symbol count once; a request that is too much is refused as a whole."""
    to, names = logged_in("FREE-1"), [f"Z{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    answers(to, subscribe(*names, "A", "B", "C", "D"))
    assert "code" not in answers(to, subscribe(*names, kind="quotes"))[0][0][0]
    assert codes(to, subscribe("AAPL", "A")) == [405]
    assert codes(session("alpaca", "/v2/sip"), auth("FREE-1")) == [409]
    assert logged_in("key", path="/v2/sip").feed == "sip"  # type: ignore[attr-defined]


def test_second_connection_of_a_key_is_refused_until_the_first_has_ended() -> None:
    """For each feed; another key, or another feed, is not concerned."""
    exchange = EXCHANGES["alpaca"](Market(1, 1000))
    first, second, other = (exchange.session(path, "", NOW_NS) for path in ("/v2/iex", "/v2/iex", "/v2/test"))
    assert first is not None
    assert second is not None
    assert other is not None
    assert answers(first, auth())[0][0][0]["T"] == "success"
    assert codes(second, auth()) == [406]
    assert answers(other, auth())[0][0][0]["T"] == "success"
    second.closed()
    assert codes(second, auth()) == [406]
    first.closed()
    assert answers(second, auth())[0][0][0]["T"] == "success"


def test_feed_for_tests_has_one_symbol_of_its_own() -> None:
    """FAKEPACA, at any hour; the other feeds do not have it."""
    for path, symbols in (("/v2/test", ["FAKEPACA"]), ("/v2/iex", ["AAPL"])):
        _, joined = answers(logged_in(path=path), subscribe("AAPL", "FAKEPACA"))
        assert {action.topic.listing.symbol for action in joined if isinstance(action, Subscribe)} == set(symbols)


def test_sizes_are_whole_shares_and_times_have_nanoseconds() -> None:
    """A fill is a message of its own."""
    of = listing("alpaca", "AAPL")
    order = next(o for o in iter(lambda: of.instrument.order(NOW_NS), None) if len(o.fills) > 1)
    frames = [json.loads(text) for text in CHANNELS["trades"].encode(of, order)]
    assert [message["i"] for (message,) in frames] == [fill.trade_id for fill in order.fills]
    assert all(isinstance(message["s"], int) for (message,) in frames)
    assert {message["t"] for (message,) in frames} == {"2026-01-05T15:00:00.123456789Z"}


def test_feed_decides_the_address() -> None:
    """Unless there is an address of its own."""
    venue = provider("alpaca")
    assert venue.url({"ALPACA_FEED": "sip"}) == "wss://stream.data.alpaca.markets/v2/sip"
    assert venue.url({"ALPACA_FEED": "sip", "ALPACA_WS_URL": "ws://127.0.0.1:9/v2/test"}) == "ws://127.0.0.1:9/v2/test"
    assert provider("alpaca_crypto").url({"ALPACA_FEED": "sip"}).endswith("/v1beta3/crypto/us")


def test_crypto_has_books_and_acknowledges_its_own_channels() -> None:
    """A whole book after the acknowledgement, then changes."""
    to = logged_in(venue="alpaca_crypto")
    ((state,), (book,)), _ = answers(to, subscribe("BTC/USD", kind="orderbooks"))
    assert set(state) == {"T", "trades", "quotes", "orderbooks", "bars", "updatedBars", "dailyBars"}
    assert (book["T"], book["r"], len(book["b"])) == ("o", True, 20)
