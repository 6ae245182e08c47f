"""The REST answers that repair publishes: each trade in them is the one that the live feed sends, found again.

The pairs below are one trade as the venue's documentation shows it, on the websocket and in its REST interface.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_frames import PROVIDERS, WRITTEN

from mdstream.capture import Frame, decode_line, encode_line
from mdstream.errors import FrameError
from mdstream.repairs import rest_frame
from mdstream.ticks import TradeTick
from mdstream.venues.feed import OTHER, TRADE, Route
from mdstream.venues.providers import provider

REQUESTS = {
    "binance": "/api/v3/historicalTrades?symbol=BTCUSDT&fromId=5680123456&limit=2",
    "binance aggTrade": "/api/v3/aggTrades?symbol=BTCUSDT&fromId=3712345678&limit=1",
    "coinbase": "/products/BTC-USD/trades?after=912345679&limit=2",
    "okx": "/api/v5/market/history-trades?instId=BTC-USDT&type=1&after=884123457&limit=2",
}
BODIES = {
    "binance": b'[{"id":5680123456,"price":"93741.20000000","qty":"0.00150000","quoteQty":"140.61180000",'
    b'"time":1767625200122,"isBuyerMaker":true,"isBestMatch":true},{"id":5680123457,"price":"93741.30000000",'
    b'"qty":"1.00000000","quoteQty":"93741.30000000","time":1767625200125,"isBuyerMaker":false,"isBestMatch":true}]',
    "binance aggTrade": b'[{"a":3712345678,"p":"93741.20000000","q":"0.00420000","f":5680123454,"l":5680123456,'
    b'"T":1767625200122,"m":false,"M":true}]',
    "coinbase": b'[{"trade_id":912345678,"side":"sell","size":"0.01200000","price":"93741.20000000",'
    b'"time":"2026-01-05T15:00:00.123456Z"},{"trade_id":912345677,"side":"buy","size":"0.01000000",'
    b'"price":"93741.10000000","time":"2026-01-05T14:59:59.981204Z"}]',
    "okx": b'{"code":"0","msg":"","data":[{"instId":"BTC-USDT","side":"sell","sz":"0.0005","px":"93741.2","source":"0",'
    b'"tradeId":"884123456","ts":"1767625200123"},{"instId":"BTC-USDT","side":"buy","sz":"0.001","px":"93741.3",'
    b'"source":"0","tradeId":"884123455","ts":"1767625200120"}]}',
}
LIVE = {
    "binance": WRITTEN["binance"]["trade"],
    "binance aggTrade": WRITTEN["binance"]["aggTrade"],
    "coinbase": WRITTEN["coinbase"]["match"],
    "okx": WRITTEN["okx"]["trades-all"],
}
"""The first trade of each body as the live feed sends it; OKX's `trades` merges fills, so its feed of single ones."""
VIEWS = {"binance": "trade", "binance aggTrade": "aggTrade", "okx": "trades"}
WHAT = sorted(BODIES)
FRAMES = {what: rest_frame(REQUESTS[what], VIEWS.get(what, ""), BODIES[what]) for what in WHAT}


def venue_of(what: str) -> str:
    return what.partition(" ")[0]


def trades(name: str, frame: bytes) -> list[TradeTick]:
    ticks = provider(name).decode(frame)
    assert all(isinstance(tick, TradeTick) for tick in ticks)
    return [tick for tick in ticks if isinstance(tick, TradeTick)]


@pytest.mark.parametrize("what", WHAT)
def test_decode_gives_a_recovered_trade_as_the_live_feed_gives_it(what: str) -> None:
    """Symbol, id, price, size, aggressor, time, ids and view are the same: only `recovered` tells them apart."""
    name = venue_of(what)
    view = {"okx": "trades"}
    (live,) = trades(name, LIVE[what])
    expected = msgspec.structs.replace(live, recovered=True, view=view.get(what, live.view))
    assert trades(name, FRAMES[what])[0] == expected


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (
            "binance",
            TradeTick("BTCUSDT", "5680123457", 93741.3, 1.0, "buy", 1767625200125 * 10**6, 5680123457, 5680123457),
        ),
        (
            "coinbase",
            TradeTick("BTCUSD", "912345677", 93741.1, 0.01, "sell", 1767625199981204000, 912345677, 912345677),
        ),
        ("okx", TradeTick("BTCUSDT", "884123455", 93741.3, 0.001, "buy", 1767625200120 * 10**6, 884123455, 884123455)),
    ],
)
def test_decode_gives_every_trade_of_an_answer_in_its_order(what: str, expected: TradeTick) -> None:
    """The second row of each body, field by field."""
    views = {"binance": "trade", "okx": "trades"}
    expected = msgspec.structs.replace(expected, recovered=True, view=views.get(what, ""))
    assert trades(what, FRAMES[what])[1:] == [expected]


def test_decode_gives_okx_trades_the_view_that_was_asked_for() -> None:
    """The fills are one list for both channels: the view beside the request names the channel."""
    (first, second) = trades("okx", rest_frame(REQUESTS["okx"], "trades-all", BODIES["okx"]))
    assert (first.view, second.view) == ("trades-all", "trades-all")
    assert first == msgspec.structs.replace(trades("okx", LIVE["okx"])[0], recovered=True)


def test_decode_takes_a_symbol_that_is_not_ascii() -> None:
    """Binance lists a few; the request holds them as they are."""
    frame = rest_frame("/api/v3/historicalTrades?symbol=币安人生USDT&fromId=1&limit=1", "trade", BODIES["binance"])
    assert {trade.symbol for trade in trades("binance", frame)} == {"币安人生USDT"}
    assert provider("binance").route(frame) == Route("币安人生USDT".encode(), TRADE)


@pytest.mark.parametrize("what", WHAT)
def test_route_knows_whose_a_rest_frame_is(what: str) -> None:
    """A capture that holds such frames is replayed to the same partition."""
    venue = provider(venue_of(what))
    assert venue.route(FRAMES[what]) == Route(trades(venue_of(what), FRAMES[what])[0].symbol.encode(), TRADE)


@pytest.mark.parametrize("what", WHAT)
def test_a_rest_frame_survives_a_capture(what: str) -> None:
    """Byte for byte: what is replayed is what was recorded."""
    frame = Frame(1, venue_of(what), FRAMES[what])
    assert decode_line(encode_line(frame)) == frame


@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_finds_nothing_in_an_answer_without_trades(name: str) -> None:
    """An empty list is an answer too."""
    empty = b'{"code":"0","msg":"","data":[]}' if name == "okx" else b"[]"
    assert list(provider(name).decode(rest_frame(REQUESTS[name], "", empty))) == []


REFUSED = [
    rest_frame("/api/v3/klines?symbol=BTCUSDT", "", b"[]"),
    rest_frame("/somewhere/else", "", b'[{"a":1}]'),
    rest_frame("", "", b"[]"),
    b'{"request":"',
    b'{"request":"/api/v3/aggTrades?symbol=BTCUSDT&fromId=1","response":' + b"[" * 100_000,
]


@pytest.mark.parametrize("frame", REFUSED)
@pytest.mark.parametrize("name", PROVIDERS)
def test_decode_refuses_the_answer_to_another_request(name: str, frame: bytes) -> None:
    """It becomes a dead letter: a list of numbers that is not known to hold trades is none."""
    with pytest.raises((FrameError, msgspec.MsgspecError)):
        provider(name).decode(frame)


@pytest.mark.parametrize("what", WHAT)
def test_decode_refuses_every_rest_frame_that_was_cut_short(what: str) -> None:
    """Cut anywhere it is an error, never fewer trades."""
    venue, frame = provider(venue_of(what)), FRAMES[what]
    for length in range(len(frame)):
        with pytest.raises((FrameError, msgspec.MsgspecError)):
            venue.decode(frame[:length])
        assert venue.route(frame[:length]).kind in (TRADE, OTHER)


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("bad", [b'"abc"', b"null", b'"1e999"', b'"nan"', b"[]"])
def test_decode_refuses_a_rest_price_that_is_no_finite_number(what: str, bad: bytes) -> None:
    """Whoever gives it: no made-up price goes on."""
    price = {"coinbase": b'"93741.20000000"', "okx": b'"93741.2"'}.get(what, b'"93741.20000000"')
    assert price in FRAMES[what]
    with pytest.raises((FrameError, msgspec.MsgspecError)):
        provider(venue_of(what)).decode(FRAMES[what].replace(price, bad))


@pytest.mark.parametrize("what", WHAT)
@given(data=st.data())
def test_decode_of_a_mangled_rest_frame_raises_nothing_but_its_two_errors(what: str, data: st.DataObject) -> None:
    """Whatever the bytes: trades with finite numbers, or FrameError, or msgspec's own error. `route` never raises."""
    frame = FRAMES[what]
    at, length = data.draw(st.integers(0, len(frame))), data.draw(st.integers(0, 40))
    mangled = frame[:at] + data.draw(st.binary(max_size=12)) + frame[at + length :]
    venue = provider(venue_of(what))
    assert venue.route(mangled).key
    try:
        ticks: Any = venue.decode(mangled)
    except (FrameError, msgspec.MsgspecError):
        return
    assert msgspec.msgpack.encode(list(ticks))
