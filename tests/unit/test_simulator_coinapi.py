"""CoinAPI: the simulated service's rules, and what is particular about its names and its login."""

from __future__ import annotations

import json
from typing import Any

import pytest
from simulated import NOW_NS, answers, session

from mdstream.instruments import Kind, parse
from mdstream.simulator.actions import Action, Close, Send, Subscribe, Unsubscribe
from mdstream.simulator.exchange import Session as Far
from mdstream.simulator.market import SECOND_NS
from mdstream.venues.providers import provider
from mdstream.venues.session import Close as Closed
from mdstream.venues.session import Fatal, Session
from mdstream.venues.session import Send as Sent

COINAPI = provider("coinapi")
BTC = "BINANCE_SPOT_BTC_USDT"
HEARTBEAT = {"type": "hearbeat"}


def scope(kind: str, *filters: str, **fields: Any) -> dict[str, Any]:
    types = fields.pop("types", ["trade", "quote"])
    return {"type": kind, "subscribe_data_type": types, "subscribe_filter_symbol_id": list(filters), **fields}


def greeted(*filters: str) -> Far:
    to = session("coinapi")
    answers(to, scope("hello", *(filters or ("NONE$",)), apikey="key", heartbeat=True))
    return to


def of(actions: list[Action], kind: type[Subscribe | Unsubscribe]) -> list[str]:
    """The subscriptions or their ends among actions."""
    return [action.topic.listing.symbol for action in actions if isinstance(action, kind)]


def test_hello_is_answered_by_a_heartbeat_alone() -> None:
    """That of a scope without symbols; another one comes after each second without data."""
    to = session("coinapi")
    hello = scope("hello", "NONE$", apikey="key", heartbeat=True)
    assert answers(to, hello) == ([HEARTBEAT], [])
    assert to.tick(NOW_NS + SECOND_NS - 1, NOW_NS) == []
    assert to.tick(NOW_NS + SECOND_NS, NOW_NS) == [Send(json.dumps(HEARTBEAT, separators=(",", ":")))]
    assert answers(session("coinapi"), hello | {"heartbeat": False}) == ([], [])


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (scope("hello", apikey="wrong"), "Invalid API key"),
        (scope("hello"), "Invalid API key"),
        (scope("subscribe", f"{BTC}$"), "the first message has to be hello"),
    ],
)
def test_a_bad_first_message_ends_the_connection(first: Any, message: str) -> None:
    """With an error before the close."""
    replies, (closed,) = answers(session("coinapi"), first)
    assert replies == [{"type": "error", "message": message}]
    assert isinstance(closed, Close)


def test_a_connection_without_hello_is_closed() -> None:
    """After ten seconds."""
    to = session("coinapi")
    assert to.tick(NOW_NS + 9 * SECOND_NS, 0) == []
    assert isinstance(to.tick(NOW_NS + 10 * SECOND_NS, 0)[0], Close)


def test_a_filter_is_a_prefix_unless_it_ends_in_a_dollar() -> None:
    """BTC_USD without it is BTC_USDT, too; a scope without filters is everything."""
    to = greeted(f"{BTC}$", "BINANCE_SPOT_BTC_USD$")
    assert (
        of(answers(to, scope("unsubscribe", "BINANCE_SPOT_BTC_USD$"))[1], Unsubscribe) == ["BINANCE_SPOT_BTC_USD"] * 2
    )
    _, joined = answers(to, scope("subscribe", "BINANCE_SPOT_BTC_USD", types=["trade", "book20", "ohlcv"]))
    assert of(joined, Subscribe) == [BTC, "BINANCE_SPOT_BTC_USD", "BINANCE_SPOT_BTC_USD"]
    assert len(of(answers(to, scope("unsubscribe", ""))[1], Unsubscribe)) == 3  # book20 goes on


def test_another_hello_replaces_the_scope() -> None:
    """All of it ends, and what the new one names begins."""
    _, actions = answers(greeted(f"{BTC}$"), scope("hello", "KRAKEN_SPOT_BTC_EUR$", apikey="key", types=["trade"]))
    assert (of(actions, Unsubscribe), of(actions, Subscribe)) == ([BTC, BTC], ["KRAKEN_SPOT_BTC_EUR"])


@pytest.mark.parametrize("request_", ["no JSON", {"type": "foo"}, scope("subscribe", types=[]), {"type": "subscribe"}])
def test_what_is_no_request_is_refused(request_: Any) -> None:
    """The connection goes on."""
    (error,), others = answers(greeted(), request_)
    assert (error["type"], others) == ("error", [])


def test_symbols_are_asked_for_after_the_first_heartbeat() -> None:
    """It is all that shows that the key was accepted; each symbol by its full name."""
    near = Session(COINAPI, ["BTC_USD.BINANCE"], {"COINAPI_KEY": "key"})
    (hello,) = (json.loads(a.frame) for a in near.opened(0.0) if isinstance(a, Sent))
    assert (hello["type"], hello["apikey"], hello["subscribe_filter_symbol_id"]) == ("hello", "key", ["NONE$"])
    assert not [action for action in near.tick(5.0, frames=0) if isinstance(action, Sent)]
    (request,) = (json.loads(a.frame) for a in near.frame(b'{"type":"hearbeat"}', 6.0) if isinstance(a, Sent))
    assert request["subscribe_filter_symbol_id"] == ["BINANCE_SPOT_BTC_USD$"]
    assert "apikey" not in request
    assert near.settled


def test_a_refused_key_is_final_and_other_errors_are_not() -> None:
    """Silence is neither: the connection is made again."""
    near = Session(COINAPI, ["BTC_USD.BINANCE"], {"COINAPI_KEY": "wrong"})
    near.opened(0.0)
    assert not [a for a in near.frame(b'{"type":"error","message":"Quota exceeded"}', 1.0) if isinstance(a, Fatal)]
    assert isinstance(near.tick(10.0, frames=1)[0], Closed)
    (end,) = near.frame(b'{"type":"error","message":"Invalid API key"}', 1.0)
    assert end == Fatal("the login was refused, Invalid API key: set COINAPI_KEY")


def test_a_symbol_is_a_listed_instrument_of_its_venue() -> None:
    """So no feed of that venue has the same one; contracts, and venues with longer names, have none."""
    found = parse(COINAPI.from_venue(BTC), ("USDT",))
    assert found is not None
    assert (found.kind, found.base, found.market) == (Kind.LISTED, "BTC_USDT", "BINANCE")
    for other in ("BINANCEFTS_PERP_BTC_USDT", "BYBITSPOT_SPOT_BTC_USDT", "OKEX_SPOT_BTC"):
        assert COINAPI.from_venue(other) == ""
