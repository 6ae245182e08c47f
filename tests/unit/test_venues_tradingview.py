"""TradingView's alerts as trades: what the user's text may look like, and which alerts are one and the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.instruments import is_cash
from mdstream.records import HOOK, RawEncoder
from mdstream.stream.canonical import Canonical
from mdstream.stream.rules import Policy, Rules
from mdstream.ticks import TradeTick
from mdstream.venues.tradingview.feed import TradingView

FEED = TradingView()
NOON_NS = 1_767_625_200_000_000_000


def read(**alert: Any) -> TradeTick:
    (tick,) = FEED.decode(json.dumps(alert).encode())
    assert isinstance(tick, TradeTick)
    return tick


def test_ticker_and_exchange_name_the_same_instrument_as_symbol() -> None:
    """TradingView's placeholders for them are two; where they stand in the text does not matter."""
    rest = {"price": 1.5, "time": "2026-01-05T15:00:00Z"}
    assert read(ticker="BTCUSDT", exchange="BINANCE", **rest) == read(symbol="BINANCE:BTCUSDT", **rest)
    assert read(**rest, exchange="BINANCE", ticker="BTCUSDT").symbol == "BINANCE:BTCUSDT.TV"
    assert read(ticker="AAPL", **rest).symbol == "AAPL.TV"


def test_an_alert_as_tradingview_s_placeholders_make_it() -> None:
    """Without a size it says a price and nothing more."""
    text = b'{"ticker":"BTCUSDT","exchange":"BINANCE","close":93741.2,"time":"2026-01-05T15:00:00Z"}'
    (tick,) = FEED.decode(text)
    assert isinstance(tick, TradeTick)
    assert (tick.price, tick.size, tick.side, tick.ts_exchange) == (93741.2, 0.0, None, NOON_NS)
    assert (tick.symbol, tick.venue) == ("BINANCE:BTCUSDT.TV", "BINANCE")


@given(st.permutations(["symbol", "price", "time", "size"]))
def test_an_alert_without_an_id_is_known_by_what_it_says(order: list[str]) -> None:
    """In any order of its fields; another price is another alert."""
    alert = {"symbol": "BTCUSDT", "price": 1.5, "time": "2026-01-05T15:00:00Z", "size": 2}
    first = read(**alert)
    assert read(**{name: alert[name] for name in order}).trade_id == first.trade_id
    assert read(**{**alert, "price": 1.6}).trade_id != first.trade_id
    assert len(first.trade_id) == 32


@pytest.mark.parametrize("symbol", ["BINANCE:BTCUSDT.P", "NSE:M&M", "CME_MINI:ES1!", "BRK.B", "USDT.D"])
def test_its_instruments_are_no_venue_s(symbol: str) -> None:
    """No feed of trades stands in for an alert, or an alert for one; and no bar is made of it."""
    found = read(symbol=symbol, price=1, time="2026-01-05T15:00:00Z").symbol
    assert found == f"{symbol}.TV"
    assert not is_cash(found)


@pytest.mark.parametrize("symbol", ["", "A" * 31, "BTC USDT", 'X"', "BTCUSDT\n", "ÄÖ", "A:B:C", ":BTCUSDT", "-A"])
def test_a_name_of_another_form_is_refused(symbol: str) -> None:
    """It would become the key of a topic and part of a subject."""
    with pytest.raises(FrameError, match="instrument"):
        read(symbol=symbol, price=1, time="2026-01-05T15:00:00Z")


class Record:
    """An alert as `mdstream api` writes it."""

    def __init__(self, offset: int, time_ns: int = NOON_NS) -> None:
        self.offset = offset
        value = json.dumps({"symbol": "BTCUSDT", "price": 1.5, "time": time_ns // 1_000_000}).encode()
        encoded = RawEncoder("tradingview", HOOK).encode(b"BTCUSDT.TV", value, b"trade", time_ns)
        self.key, self.value, self.timestamp, self.headers = encoded


def published(core: Canonical, *records: Record) -> list[dict[str, Any]]:
    return [json.loads(value or b"") for _, value, _, _ in core.step(records).trades]


def core_worker() -> Canonical:
    return Canonical("md.raw.crypto", 0, [FEED], rules=Rules(Policy(("tradingview",))), announces=lambda _: True)


def test_an_alert_is_published_however_long_ago_the_last_one_was() -> None:
    """Its source is silent most of the time, has no ingestor, and is at fault for none of it."""
    core, second_ns = core_worker(), 1_000_000_000
    for offset, later_s in enumerate((0, 1, 60, 3_600, 30 * 86_400, 30 * 86_400 + 1)):
        assert len(published(core, Record(offset, NOON_NS + later_s * second_ns))) == 1


def test_the_core_worker_publishes_an_alert_once() -> None:
    """However often its record is in the log: the webhook may write it again after a failure."""
    trades = published(core_worker(), Record(0), Record(1))
    assert [(t["symbol"], t["provider"], t["price"], t["size"]) for t in trades] == [
        ("BTCUSDT.TV", "tradingview", 1.5, 0.0)
    ]
