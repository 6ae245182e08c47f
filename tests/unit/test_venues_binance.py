"""Binance spot told from Binance futures, and the units of its times."""

from __future__ import annotations

import pytest

from mdstream.errors import FrameError
from mdstream.ticks import TradeTick
from mdstream.venues.providers import provider
from mdstream.venues.times import epoch_ns

FUTURES: dict[str, bytes] = {
    "aggTrade": b'{"stream":"sushiusdt@aggTrade","data":{"e":"aggTrade","E":1767625200123,"s":"SUSHIUSDT","a":7,'
    b'"p":"0.3100","q":"12","nq":"12","f":8,"l":9,"T":1767625200122,"m":true}}',
    "aggTrade of before nq": b'{"stream":"sushiusdt@aggTrade","data":{"e":"aggTrade","E":1767625200123,'
    b'"s":"SUSHIUSDT","a":7,"p":"0.3100","q":"12","f":8,"l":9,"T":1767625200122,"m":true}}',
    "trade": b'{"stream":"sushiusdt@trade","data":{"e":"trade","E":1767625200123,"T":1767625200122,"s":"SUSHIUSDT",'
    b'"t":7,"p":"0.3100","q":"12","X":"MARKET","m":true}}',
    "trade of nobody": b'{"stream":"sushiusdt@trade","data":{"e":"trade","E":1767625200123,"T":1767625200122,'
    b'"s":"SUSHIUSDT","t":7,"p":"0","q":"0","X":"NA","m":true}}',
    "bookTicker": b'{"stream":"sushiusdt@bookTicker","data":{"e":"bookTicker","u":9,"E":1767625200123,'
    b'"T":1767625200122,"s":"SUSHIUSDT","b":"0.3099","B":"5","a":"0.3100","A":"6"}}',
}


@pytest.mark.parametrize("what", FUTURES)
@pytest.mark.parametrize("raw_path", [False, True])
def test_frame_of_futures_is_refused_by_name(what: str, raw_path: bool) -> None:
    """They have the names of spot's, and other prices: as long as no provider is theirs they are dead letters."""
    frame = FUTURES[what]
    with pytest.raises(FrameError, match="Binance futures"):
        provider("binance").decode(frame[frame.index(b'"data":') + 7 : -1] if raw_path else frame)


TIMED: dict[str, bytes] = {
    "trade": b'{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":7,"p":"1.5","q":"2","T":%d,"m":true}}',
    "aggTrade": b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1,"s":"BTCUSDT","a":7,"p":"1.5","q":"2",'
    b'"f":8,"l":9,"T":%d,"m":true,"M":true}}',
    "REST": b'{"request":"/api/v3/historicalTrades?symbol=BTCUSDT&fromId=7&limit=1","response":[{"id":7,"price":"1.5",'
    b'"qty":"2","time":%d,"isBuyerMaker":true,"isBestMatch":true}]}',
}


@pytest.mark.parametrize("what", TIMED)
@pytest.mark.parametrize(
    ("wire", "ns"), [(1767625200123, 1767625200123000000), (1767625200123456, 1767625200123456000)]
)
def test_times_are_milliseconds_or_microseconds_by_their_size(what: str, wire: int, ns: int) -> None:
    """`timeUnit=MICROSECOND` in the websocket's URL changes every time in its frames."""
    (trade,) = provider("binance").decode(TIMED[what] % wire)
    assert isinstance(trade, TradeTick)
    assert trade.ts_exchange == ns


def test_epoch_changes_its_unit_where_nobody_trades() -> None:
    """The largest millisecond is in 2255, the smallest microsecond in April 1970."""
    assert epoch_ns(8_999_999_999_999) == 8_999_999_999_999_000_000
    assert epoch_ns(9_000_000_000_000) == 9_000_000_000_000_000


@pytest.mark.parametrize(("first", "last"), [(9, 8), (0, 1_000_000)])
def test_aggregate_of_no_trade_or_of_too_many_is_refused(first: int, last: int) -> None:
    """Nobody's order is filled a million times at one price."""
    frame = (
        '{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade","E":1,"s":"BTCUSDT","a":7,"p":"1.5","q":"2",'
        f'"f":{first},"l":{last},"T":1767625200122,"m":true,"M":true}}}}'
    )
    with pytest.raises(FrameError, match=f"an aggregate of trades {first} to {last}"):
        provider("binance").decode(frame.encode())
