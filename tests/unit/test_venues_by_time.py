"""mdstream/venues/*/timed.py of Coinbase, OKX, Bybit and Kraken: what is asked for, and which page follows."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mdstream.errors import FrameError, SettingsError
from mdstream.repair.venues import TIMED
from mdstream.repairs import rest_frame
from mdstream.ticks import TradeTick
from mdstream.venues.past import Page
from mdstream.venues.providers import provider
from mdstream.venues.rest import Answer, PermanentError, RetryableError
from mdstream.venues.timed import TRADES

BEGIN_NS = 1_767_625_200_000_000_000  # 2026-01-05T15:00:00Z
HOUR_NS = 3_600_000_000_000
VENUES = ("bybit", "bybit_linear", "coinbase", "kraken", "okx")


@pytest.mark.parametrize(
    ("venue", "symbol", "interval", "target"),
    [
        (
            "coinbase", "BTCUSD", "1m",
            "/products/BTC-USD/candles?granularity=60&start=1767625200&end=1767628799",
        ),
        (
            "okx", "BTCUSDT", "1d",
            "/api/v5/market/history-candles?instId=BTC-USDT&bar=1Dutc&after=1767628800000&before=1767625199999&limit=300",
        ),
        (
            "bybit", "BTCUSDT", "1d",
            "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=D&start=1767625200000&end=1767628799999&limit=1000",
        ),
        (
            "bybit_linear", "BTCUSDC-PERP", "2h",
            "/v5/market/kline?category=linear&symbol=BTCPERP&interval=120&start=1767625200000&end=1767628799999&limit=1000",
        ),
        ("kraken", "BTCUSD", "4h", "/0/public/OHLC?pair=XBTUSD&interval=240&since=1767625199"),
        ("kraken", "DOGEBTC", TRADES, "/0/public/Trades?pair=XDGXBT&since=1767625199999999000&count=1000"),
    ],
)  # fmt: skip
def test_a_request_has_the_window_as_the_venue_counts_it(venue: str, symbol: str, interval: str, target: str) -> None:
    """From its beginning, included, to its end, not included."""
    page = TIMED[venue]().ask(symbol, interval, BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert isinstance(page, Page)
    assert page.target == target


@pytest.mark.parametrize("symbol", ["BTCUSDT-PERP", "BTCUSDC-20261225", "BTC-USD-SWAP"])
def test_contracts_of_okx_have_no_bars(symbol: str) -> None:
    """Their volumes could not be told from those in base."""
    found = TIMED["okx"]().ask(symbol, "1m", BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert isinstance(found, PermanentError)
    assert "expected a pair" in found.reason


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue != "kraken"])
def test_trades_are_asked_for_by_time_only_where_a_venue_has_them_so(venue: str) -> None:
    """Bybit has none at all, Coinbase and OKX have them by id."""
    symbol = provider(venue).default_symbols[0]
    assert TIMED[venue]().ask(symbol, TRADES, 0, HOUR_NS) == PermanentError(f"{venue} has no past trades")


@pytest.mark.parametrize("venue", VENUES)
def test_the_sites_of_feed_and_past_are_those_of_one_venue(venue: str) -> None:
    """The addresses that are built in belong together; those of a testnet and of the venue itself are refused."""
    assert TIMED[venue]().check_addresses({}) is None
    if venue.startswith("bybit"):
        testnet = {f"{venue.upper()}_WS_URL": "wss://stream-testnet.bybit.com/v5/public/spot"}
        with pytest.raises(SettingsError, match="Bybit's testnet"):
            TIMED[venue]().check_addresses(testnet)


@pytest.mark.parametrize("venue", ["bybit", "bybit_linear"])
def test_bybit_bans_for_ten_minutes(venue: str) -> None:
    """It does not say how long, where it says 403; what else fails is asked for again sooner."""
    judge = TIMED[venue]().judge
    assert judge(Answer(403, {}, b"403, access too frequent"), now_s=0.0) == RetryableError(
        "HTTP 403: 403, access too frequent", 600.0
    )
    assert judge(Answer(403, {"retry-after": "7"}, b""), now_s=0.0) == RetryableError("HTTP 403: ", 7.0)
    assert judge(Answer(503, {}, b""), now_s=0.0) == RetryableError("HTTP 503: ", None)


@example("XBT", "USD")
@example("XDG", "USD")
@given(st.text("ABCDEFGHIKLMNOPQRSTUVWXYZ0123456789", min_size=2, max_size=10), st.sampled_from(["USD", "EUR", "BTC"]))
def test_a_pair_of_kraken_comes_back_from_its_name_over_rest(base: str, quote: str) -> None:
    """Whatever its name: an answer belongs to the pair that was asked for, an older name to its coin's."""
    symbol = {"XBT": "BTC", "XDG": "DOGE"}.get(base, base) + quote
    page = TIMED["kraken"]().ask(symbol, "1m", 0, HOUR_NS)
    assert isinstance(page, Page)
    assert provider("kraken").route(rest_frame(page.target, "1m", b"[]")).key.decode() == symbol


@pytest.mark.parametrize("name", ["X", "USD", "XXBTZUSD.", "XBT"])
def test_what_is_no_pair_of_kraken_has_no_instrument(name: str) -> None:
    """Its answer is a dead letter."""
    kraken, frame = provider("kraken"), rest_frame(f"/0/public/Trades?pair={name}&since=1", TRADES, b"{}")
    assert kraken.route(frame).key == b"kraken"
    with pytest.raises(FrameError):
        kraken.decode(frame)


class Kraken:
    """Pages of Kraken's trades from BEGIN_NS on, of `rows` trades at most."""

    def __init__(self, rows: int = 4) -> None:
        self.timed = TIMED["kraken"]()
        page = self.timed.ask("BTCUSD", TRADES, BEGIN_NS, BEGIN_NS + HOUR_NS)
        assert isinstance(page, Page)
        self.page = page._replace(rows=rows)

    def since(self, page: Page | None) -> int | None:
        """Where a page begins, ns behind BEGIN_NS."""
        return None if page is None else int(page.target.partition("since=")[2].partition("&")[0]) - BEGIN_NS

    def more(self, *after_ns: int, page: Page | None = None) -> Page | None:
        """The page behind one with trades of these times."""
        times = [f"{(BEGIN_NS + ns) // 10**9}.{(BEGIN_NS + ns) % 10**9 // 100:07d}" for ns in after_ns]
        rows = ",".join(f'["1.0","1.0",{time},"b","m","",{i}]' for i, time in enumerate(times, 1))
        return self.timed.more(page or self.page, f'{{"error":[],"result":{{"XXBTZUSD":[{rows}]}}}}'.encode())


def test_the_next_page_of_kraken_begins_before_the_last_trade_of_one() -> None:
    """As there may be more trades of that time, which is rounded."""
    kraken = Kraken()
    assert kraken.since(kraken.page) == -1_000
    page = kraken.more(0, 1_000_000, 7_123_456_700)
    assert kraken.since(page) == 7_123_455_000
    assert page is not None
    assert page.target.startswith("/0/public/Trades?pair=XBTUSD&")
    assert page.target.endswith("&count=1000")
    assert kraken.since(kraken.more(7_123_456_700, 8_000_000_000, page=page)) == 7_999_999_000


def test_the_last_page_of_kraken_is_the_one_without_a_new_trade() -> None:
    """Also when it is short of the most that a page has: that is not promised of any page but the last."""
    kraken = Kraken()
    assert kraken.more() is None
    assert kraken.more(500) is None
    page = kraken.more(0, 5_000_000)
    assert page is not None
    assert kraken.more(5_000_000, page=page) is None


def test_a_page_of_kraken_that_leads_no_further_is_an_error() -> None:
    """More trades at one time than a page has: going on behind them would lose some."""
    kraken = Kraken(rows=3)
    page = kraken.more(0, 0, 5_000_000)
    assert page is not None
    with pytest.raises(FrameError, match="more trades within 2000 ns"):
        kraken.more(5_000_000, 5_000_000, 5_000_000, page=page)


def test_bars_of_kraken_come_in_one_page() -> None:
    """Whatever the answer is."""
    timed = TIMED["kraken"]()
    page = timed.ask("BTCUSD", "1m", BEGIN_NS, BEGIN_NS + HOUR_NS)
    assert isinstance(page, Page)
    assert timed.more(page, b"{}") is None


@pytest.mark.parametrize("time", ["1767625200.12345678901", "-1", "1e9", '"1"', "null"])
def test_a_time_of_kraken_is_a_plain_number_of_seconds(time: str) -> None:
    """Anything else is refused, in a frame and in the search for the next page."""
    body = f'{{"error":[],"result":{{"XXBTZUSD":[["1.0","1.0",{time},"b","m","",7]]}}}}'.encode()
    kraken = Kraken()
    with pytest.raises(FrameError, match="not a time in seconds"):
        kraken.timed.more(kraken.page, body)
    with pytest.raises(FrameError, match="not a time in seconds"):
        provider("kraken").decode(rest_frame(kraken.page.target, TRADES, body))


@given(st.integers(BEGIN_NS, BEGIN_NS + 3 * HOUR_NS))
@example(BEGIN_NS)
@example(BEGIN_NS + 999_999_999)
def test_a_time_of_kraken_is_that_of_the_feed_or_a_microsecond_later(ns: int) -> None:
    """In spite of the float64 that it was: never earlier, or the first live trade would be history, too."""
    body = f'{{"error":[],"result":{{"XXBTZUSD":[["1.0","1.0",{ns / 10**9:.7f},"b","m","",7]],"last":"1"}}}}'.encode()
    (tick,) = TIMED["kraken"]().read("BTCUSD", rest_frame("/0/public/Trades?pair=XBTUSD&since=1", TRADES, body))
    assert isinstance(tick, TradeTick)
    assert (tick.ts_exchange or 0) - ns // 1_000 * 1_000 in (0, 1_000)


def test_a_trade_of_kraken_without_an_id_is_refused() -> None:
    """Some had the id 0: many trades would count as one."""
    body = b'{"error":[],"result":{"XXBTZUSD":[["1.0","1.0",1767625200.1,"b","m","",0]]}}'
    with pytest.raises(msgspec.ValidationError, match=">= 1"):
        provider("kraken").decode(rest_frame("/0/public/Trades?pair=XBTUSD&since=1", TRADES, body))
