"""Simulated Binance futures: where they differ from spot, whose tests are in test_simulator_binance.py."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from simulated import NOW_NS, answers, listing, session

from mdstream.errors import FrameError
from mdstream.repair.venues import HISTORIES
from mdstream.simulator.actions import Close, Ping, Subscribe
from mdstream.simulator.exchange import Session
from mdstream.simulator.market import SECOND_NS, Market
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.venues.binance.simulated import COMBINED as SPOT
from mdstream.venues.providers import provider

FUTURES = {"binance_usdm": "BTCUSDT", "binance_coinm": "BTCUSD_PERP"}
STREAMS = ("trade", "aggTrade", "bookTicker", "depth20@100ms")


def subscribed(to: Session, symbol: str, *streams: str) -> list[str]:
    """The kinds of the streams that will send something; all are acknowledged."""
    params = [f"{symbol.lower()}@{stream}" for stream in streams]
    (ack,), actions = answers(to, {"method": "SUBSCRIBE", "params": params, "id": 1})
    assert ack == {"result": None, "id": 1}
    return [stream for stream in streams if f"{symbol.lower()}@{stream}" in live(actions)]


def live(actions: list[Any]) -> set[str]:
    sent = set()
    for action in actions:
        assert isinstance(action, Subscribe)
        of = action.topic.listing
        event: dict[str, Any] = {
            "trade": of.instrument.order,
            "quote": of.instrument.quote,
            "book": of.instrument.book,
        }
        (frame, *_) = action.topic.channel.encode(of, event[action.topic.channel.kind.value](NOW_NS))
        sent.add(json.loads(frame)["stream"])
    return sent


def test_each_address_of_usd_m_has_its_own_streams() -> None:
    """The others are acknowledged and stay silent: no connection has aggTrade and quotes. /stream is /public."""
    public, market = ["trade", "bookTicker", "depth20@100ms"], ["aggTrade"]
    for path, expected in (("/public/stream", public), ("/market/stream", market), ("/stream", public)):
        assert subscribed(session("binance_usdm", path), "BTCUSDT", *STREAMS) == expected
    assert subscribed(session("binance_coinm"), "BTCUSD_PERP", *STREAMS) == list(STREAMS)
    assert EXCHANGES["binance_coinm"](Market(1, 1)).session("/public/stream", "", NOW_NS) is None
    assert EXCHANGES["binance"](Market(1, 1)).session("/market/ws", "", NOW_NS) is None


@pytest.mark.parametrize("name", FUTURES)
def test_what_the_provider_asks_for_is_what_its_address_has(name: str) -> None:
    """Trades, quotes and books on one connection."""
    venue, to = provider(name), session(name)
    (request,) = venue.subscribe([venue.from_venue(FUTURES[name])])
    assert live(answers(to, str(request.frame))[1]) == set(json.loads(request.frame)["params"])


@pytest.mark.parametrize("name", FUTURES)
def test_limits_are_those_of_futures(name: str) -> None:
    """Ten messages a second, 200 streams, a ping every three minutes and ten for its pong."""
    to, minute = session(name), 60 * SECOND_NS
    (refused,), _ = answers(to, {"method": "SUBSCRIBE", "params": [f"c{n}@trade" for n in range(201)], "id": 1})
    assert refused["msg"].startswith("Invalid request: more than 200")
    others = [answers(to, {"method": "LIST_SUBSCRIPTIONS", "id": n})[1] for n in range(10)]
    assert others == [[]] * 9 + [[Close(1008, "Too many requests")]]
    assert to.tick(NOW_NS + 2 * minute, 0) == []
    assert isinstance(to.tick(NOW_NS + 3 * minute, 0)[0], Ping)
    assert to.tick(NOW_NS + 13 * minute, 0) == [Close(1008, "Pong timeout")]
    assert provider(name).max_symbols * 3 <= 200


def test_the_keepalive_is_answered() -> None:
    """So that a quiet connection is not taken for a dead one before the venue's ping."""
    venue = provider("binance_usdm")
    assert venue.keepalive is not None
    (answer,), _ = answers(session("binance_usdm"), str(venue.keepalive.frame))
    assert answer == {"result": [], "id": 0}


def test_sizes_of_coin_m_are_whole_contracts() -> None:
    """Of trades, quotes and books."""
    of = listing("binance_coinm", "BTCUSD_PERP")
    assert of.canonical == "BTCUSD-PERP"
    assert all(of.size(fill.lots) == str(fill.lots) for fill in of.instrument.order(NOW_NS).fills)


@pytest.mark.parametrize(("name", "symbol"), FUTURES.items())
@pytest.mark.parametrize("stream", STREAMS)
def test_neither_market_takes_the_others_frames(name: str, symbol: str, stream: str) -> None:
    """Spot refuses those of futures, futures those of spot, and each of the two those of the other."""
    other = "binance_coinm" if name == "binance_usdm" else "binance_usdm"
    for reader, writer, own in (("binance", name, symbol), (other, name, symbol), (name, "binance", "BTCUSDT")):
        of = listing(writer, own)
        channels = SPOT if writer == "binance" else EXCHANGES[writer].channels
        event: Any = of.instrument.order if "rade" in stream else of.instrument.book
        event = of.instrument.quote if stream == "bookTicker" else event
        for frame in channels[stream].encode(of, event(NOW_NS)):
            with pytest.raises((FrameError, msgspec.ValidationError)):
                provider(reader).decode(frame.encode())


def test_history_of_coin_m_has_its_own_weights() -> None:
    """2,400 a minute, 20 for a page; and only aggregates."""
    rest = RESTS["binance_coinm"](EXCHANGES["binance_coinm"](Market(1, 1)))
    answer = rest.get("/dapi/v1/aggTrades", "symbol=BTCUSD_PERP&limit=5", NOW_NS)
    assert (answer.status, answer.headers["x-mbx-used-weight-1m"]) == (200, "20")
    assert HISTORIES["binance_coinm"]().load({"x-mbx-used-weight-1m": "1200"}) == 0.5
    assert rest.get("/api/v3/aggTrades", "symbol=BTCUSD_PERP", NOW_NS).status == 404
