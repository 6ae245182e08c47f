"""Every venue's list of instruments: its documented answers, and those of its own simulated REST interface."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict

from mdstream.errors import FrameError
from mdstream.events import ListedInstrument
from mdstream.instruments import Kind
from mdstream.rest.listings import LISTINGS
from mdstream.simulator.market import Market
from mdstream.simulator.venues import EXCHANGES, RESTS
from mdstream.venues.listing import Listing, exact, kind_of, matches
from mdstream.venues.providers import provider
from mdstream.venues.rest import Answer, RetryableError

NOW_NS = 1_767_625_200_123_456_789

BINANCE = """{"timezone":"UTC","serverTime":1767625200123,"rateLimits":[],"exchangeFilters":[],"symbols":[
{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","baseAssetPrecision":8,"quoteAsset":"USDT","quotePrecision":8,
"filters":[{"filterType":"PRICE_FILTER","minPrice":"0.01000000","maxPrice":"1000000.00000000","tickSize":"0.01000000"},
{"filterType":"LOT_SIZE","minQty":"0.00001000","maxQty":"9000.00000000","stepSize":"0.00001000"},
{"filterType":"MARKET_LOT_SIZE","minQty":"0.00000000","maxQty":"100.00000000","stepSize":"0.00000000"},
{"filterType":"MAX_NUM_ORDERS","maxNumOrders":200}],"permissions":[],"permissionSets":[]},
{"symbol":"BCCBTC","status":"BREAK","baseAsset":"BCC","quoteAsset":"BTC","filters":[]}]}"""
USDM = """{"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,
"status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","pricePrecision":2,"filters":[
{"filterType":"PRICE_FILTER","maxPrice":"4529764","minPrice":"556.80","tickSize":"0.10"},
{"filterType":"LOT_SIZE","minQty":"0.001","maxQty":"1000","stepSize":"0.001"}]},
{"symbol":"ETHUSDT_260925","pair":"ETHUSDT","contractType":"CURRENT_QUARTER","status":"SETTLING","baseAsset":"ETH",
"quoteAsset":"USDT","filters":[]},{"symbol":"ICPUSDT_SETTLED1","status":"SETTLING","baseAsset":"ICP","quoteAsset":"USDT",
"filters":[]}]}"""
COINM = """{"symbols":[{"symbol":"BTCUSD_PERP","pair":"BTCUSD","contractType":"PERPETUAL","contractStatus":"TRADING",
"contractSize":100,"baseAsset":"BTC","quoteAsset":"USD","marginAsset":"BTC","filters":[
{"filterType":"PRICE_FILTER","tickSize":"0.1"},{"filterType":"LOT_SIZE","stepSize":"1"}]}]}"""
BYBIT = """{"retCode":0,"retMsg":"OK","result":{"category":"spot","list":[{"symbol":"BTCUSDT","baseCoin":"BTC",
"quoteCoin":"USDT","innovation":"0","status":"Trading","marginTrading":"utaOnly","lotSizeFilter":{"basePrecision":
"0.000001","quotePrecision":"0.0000001","minOrderQty":"0.000011"},"priceFilter":{"tickSize":"0.01"}}]},
"retExtInfo":{},"time":1767625200123}"""
LINEAR = """{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[{"symbol":"BTCPERP","contractType":
"LinearPerpetual","status":"Trading","baseCoin":"BTC","quoteCoin":"USDC","settleCoin":"USDC","priceFilter":{"minPrice":
"0.10","maxPrice":"1999999.80","tickSize":"0.10"},"lotSizeFilter":{"qtyStep":"0.001","minOrderQty":"0.001"}},
{"symbol":"BTCUSDT-26DEC25","contractType":"LinearFutures","status":"PreLaunch","baseCoin":"BTC","quoteCoin":"USDT",
"priceFilter":{"tickSize":"0.5"},"lotSizeFilter":{"qtyStep":"0.001"}}],"nextPageCursor":"page_token%3D2%26"}}"""
OKX = """{"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USD-SWAP","uly":"BTC-USD","baseCcy":"",
"quoteCcy":"","settleCcy":"BTC","ctVal":"100","ctMult":"1","ctValCcy":"USD","tickSz":"0.1","lotSz":"1","minSz":"1","state":"live"},
{"instType":"SWAP","instId":"BTC-USDT-SWAP","ctVal":"0.01","ctMult":"2","ctValCcy":"BTC","tickSz":"0.1","lotSz":"0.01",
"state":"suspend"},{"instType":"FUTURES","instId":"BTC-USD-260327","ctVal":"100","ctMult":"1","ctValCcy":"USD",
"tickSz":"0.1","lotSz":"1","state":"live"}]}"""
OKX_SPOT = """{"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","baseCcy":"BTC","quoteCcy":"USDT",
"ctVal":"","ctMult":"","ctValCcy":"","tickSz":"0.1","lotSz":"0.00000001","minSz":"0.00001","state":"live"}]}"""
OKX_TICKERS = """{"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","last":"93741.2",
"volCcy24h":"1000.5"},
{"instType":"SWAP","instId":"BTC-USD-SWAP","last":"90000","vol24h":"1800000","volCcy24h":"2000"},
{"instType":"SWAP","instId":"BTC-USDT-SWAP","last":"","volCcy24h":""}]}"""
COINBASE = """[{"id":"BTC-USD","base_currency":"BTC","quote_currency":"USD","quote_increment":"0.01","base_increment":
"0.00000001","display_name":"BTC-USD","min_market_funds":"1","post_only":false,"limit_only":false,"cancel_only":false,
"status":"online","status_message":"","trading_disabled":false},{"id":"ETH-DAI","base_currency":"ETH","quote_currency":
"DAI","quote_increment":"0.01","base_increment":"0.00000001","status":"delisted","trading_disabled":true}]"""
KRAKEN = """{"error":[],"result":{"XXBTZUSD":{"altname":"XBTUSD","wsname":"XBT/USD","base":"XXBT",
"quote":"ZUSD","pair_decimals":1,"lot_decimals":8,"lot_multiplier":1,"ordermin":"0.00005","tick_size":"0.1","status":
"online"},"ETHXBT.d":{"altname":"ETHXBT.d","base":"XETH","quote":"XXBT","pair_decimals":5,"lot_decimals":8},
"XDGEUR":{"altname":"XDGEUR","wsname":"XDG/EUR","lot_decimals":8,"tick_size":"0.0000001","status":"cancel_only"}}}"""

BTC = {"base": "BTC", "quote": "USDT", "contract_currency": "BTC"}
ANSWERS: dict[str, tuple[list[str], list[str], list[dict[str, Any]]]] = {
    "binance": (
        [BINANCE],
        ['[{"symbol":"BTCUSDT","volume":"12750.5","quoteVolume":"1195234600.5"}]'],
        [
            {"symbol": "BCCBTC", "status": "not_trading", "tick_size": None, "lot_size": None, "volume_24h": None},
            {**BTC, "symbol": "BTCUSDT", "kind": "spot", "tick_size": "0.01", "lot_size": "0.00001"}
            | {"contract_size": "1", "status": "trading", "volume_24h": 1195234600.5},
        ],
    ),
    "binance_usdm": (
        [USDM],
        ['[{"symbol":"BTCUSDT","volume":"1.5","quoteVolume":"140000"}]'],
        [
            {**BTC, "symbol": "BTCUSDT-PERP", "venue_symbol": "BTCUSDT", "kind": "perpetual", "tick_size": "0.1"}
            | {"lot_size": "0.001", "contract_size": "1", "volume_24h": 140000.0},
            {"symbol": "ETHUSDT-20260925", "kind": "future", "status": "not_trading"},
        ],
    ),
    "binance_coinm": (
        [COINM],
        ['[{"symbol":"BTCUSD_PERP","pair":"BTCUSD","volume":"312","baseVolume":"0.33"}]'],
        [
            {"symbol": "BTCUSD-PERP", "kind": "inverse perpetual", "contract_size": "100", "contract_currency": "USD"}
            | {"status": "trading", "lot_size": "1", "volume_24h": 31200.0}
        ],
    ),
    "bybit": (
        [BYBIT],
        ['{"retCode":0,"result":{"list":[{"symbol":"BTCUSDT","turnover24h":"5.5"}]}}'],
        [{**BTC, "symbol": "BTCUSDT", "kind": "spot", "tick_size": "0.01", "lot_size": "0.000001", "volume_24h": 5.5}],
    ),
    "bybit_linear": (
        [LINEAR],
        [],
        [
            {"symbol": "BTCUSDC-PERP", "venue_symbol": "BTCPERP", "quote": "USDC", "lot_size": "0.001"},
            {**BTC, "symbol": "BTCUSDT-20251226", "kind": "future", "status": "not_trading", "tick_size": "0.5"},
        ],
    ),
    "okx": (
        [OKX_SPOT, OKX],
        [OKX_TICKERS],
        [
            {"symbol": "BTC-USD-260327", "kind": "future", "contract_size": "100", "contract_currency": "USD"},
            {
                "symbol": "BTC-USD-SWAP",
                "kind": "inverse perpetual",
                "contract_size": "100",
                "volume_24h": 180_000_000.0,
            },
            {**BTC, "symbol": "BTCUSDT", "kind": "spot", "lot_size": "0.00000001", "volume_24h": 1000.5},
            {**BTC, "symbol": "BTCUSDT-PERP", "venue_symbol": "BTC-USDT-SWAP", "kind": "perpetual"}
            | {"contract_size": "0.02", "status": "not_trading"},
        ],
    ),
    "coinbase": (
        [COINBASE],
        [],
        [
            {"symbol": "BTCUSD", "venue_symbol": "BTC-USD", "tick_size": "0.01", "lot_size": "0.00000001"},
            {"symbol": "ETHDAI", "status": "not_trading"},
        ],
    ),
    "kraken": (
        [KRAKEN],
        ['{"error":[],"result":{"XXBTZUSD":{"v":["1","2.5"],"p":["90000","80000"],"o":"1"}}}'],
        [
            {"symbol": "BTCUSD", "venue_symbol": "BTC/USD", "tick_size": "0.1", "lot_size": "0.00000001"}
            | {"volume_24h": 200_000.0},
            {"symbol": "DOGEEUR", "venue_symbol": "DOGE/EUR", "tick_size": "0.0000001", "status": "not_trading"},
        ],
    ),
}


def read(name: str, bodies: list[str], volumes: list[str]) -> list[ListedInstrument]:
    return LISTINGS[name]().read([b.encode() for b in bodies], [v.encode() for v in volumes], ts_recv=NOW_NS)


@pytest.mark.parametrize("name", LISTINGS)
def test_documented_answers_are_read(name: str) -> None:
    """Names, kinds, steps, contracts, status and volumes are those that the venue's documentation means."""
    bodies, volumes, expected = ANSWERS[name]
    found = read(name, bodies, volumes)
    assert [each.symbol for each in found] == [each["symbol"] for each in expected]
    for instrument, fields in zip(found, expected, strict=True):
        assert {field: asdict(instrument)[field] for field in fields} == fields
        assert (instrument.provider, instrument.ts_recv) == (name, NOW_NS)


def pages(listing: Listing, targets: list[str]) -> list[bytes]:
    """The simulated venue's answers, which have to be good ones."""
    rest = RESTS[listing.name](EXCHANGES[listing.name](Market(1, 1000)))
    bodies = []
    while targets:
        target, *targets = targets
        path, _, query = target.partition("?")
        answer = rest.get(path, query, NOW_NS)
        assert listing.judge(Answer(answer.status, answer.headers, answer.body), now_s=0.0) is None, answer
        bodies.append(answer.body)
        targets += filter(None, [listing.more(target, answer.body)])
    return bodies


@pytest.mark.parametrize("name", LISTINGS)
def test_the_simulated_venue_lists_what_it_trades(name: str) -> None:
    """Its answers have the venue's form; the default symbols are among them, by the names that the feed uses."""
    listing, of = LISTINGS[name](), provider(name)
    found = listing.read(pages(listing, [*listing.targets]), pages(listing, [*listing.volume_targets]), ts_recv=NOW_NS)
    by_symbol = {each.symbol: each for each in found}
    assert set(of.default_symbols) <= by_symbol.keys()
    assert all(of.to_venue(each.symbol) == each.venue_symbol for each in found)
    assert all(each.status == "trading" and each.tick_size and each.lot_size for each in found)
    assert all((each.volume_24h or 0) > 0 for each in found) == bool(listing.volume_targets)


@pytest.mark.parametrize("name", LISTINGS)
def test_a_venue_that_is_asked_too_often_says_so(name: str) -> None:
    """Its refusal is an error that passes, never an empty list."""
    listing = LISTINGS[name]()
    rest = RESTS[name](EXCHANGES[name](Market(1, 1000), []))
    path, _, query = listing.targets[0].partition("?")
    answers = [rest.get(path, query, NOW_NS) for _ in range(2_500)]
    refused = answers[-1]
    found = listing.judge(Answer(refused.status, refused.headers, refused.body), now_s=0.0)
    assert isinstance(found, RetryableError)
    assert any(word in found.reason.lower() for word in ("too m", "rate limit exceeded"))


def test_bybit_linear_lists_in_pages() -> None:
    """The cursor is passed on as it came; the last page has none."""
    listing = LISTINGS["bybit_linear"]()
    following = listing.more(listing.targets[0], LINEAR.encode())
    assert following == "/v5/market/instruments-info?category=linear&limit=1000&cursor=page_token%3D2%26"
    assert listing.more(following, LINEAR.replace("page_token%3D2%26", "").encode()) is None
    rest = RESTS["bybit_linear"](EXCHANGES["bybit_linear"](Market(1, 1000)))
    first = json.loads(rest.get("/v5/market/instruments-info", "category=linear&limit=5", NOW_NS).body)["result"]
    more = f"category=linear&limit=5&cursor={first['nextPageCursor']}"
    second = json.loads(rest.get("/v5/market/instruments-info", more, NOW_NS).body)["result"]
    names = [each["symbol"] for each in first["list"] + second["list"]]
    assert len(set(names)) == 10
    assert names == sorted(names)


@pytest.mark.parametrize(
    ("name", "body", "reason"),
    [
        ("bybit", '{"retCode":10001,"retMsg":"params error","result":{}}', "10001 params error"),
        ("kraken", '{"error":["EService:Unavailable"]}', "HTTP 200: EService:Unavailable"),
        ("okx", '{"code":"50001","msg":"Service temporarily unavailable","data":[]}', "HTTP 200: 50001 Service"),
    ],
)
def test_errors_in_an_answer_with_status_200_are_seen(name: str, body: str, reason: str) -> None:
    """The venue's own words, not a missing field."""
    found = LISTINGS[name]().judge(Answer(200, {}, body.encode()), now_s=0.0)
    assert found is not None
    assert found.reason.startswith(reason)


@pytest.mark.parametrize("name", LISTINGS)
@pytest.mark.parametrize("body", ["[1]", '{"symbols":[{}]}', "x", '"\xff"', "[" * 2_000])
def test_answers_of_another_form_are_refused(name: str, body: str) -> None:
    """As a whole: half a list would let symbols be refused that the venue has."""
    with pytest.raises((FrameError, msgspec.MsgspecError)):
        LISTINGS[name]().read([body.encode("latin-1")], ts_recv=NOW_NS)


def test_text_that_is_not_utf_8_is_refused() -> None:
    """As any answer that cannot be read."""
    with pytest.raises(FrameError, match="not JSON that can be read"):
        LISTINGS["coinbase"]().read([COINBASE.encode().replace(b"online", b"\xff")], ts_recv=NOW_NS)


def test_a_venue_without_volumes_has_none() -> None:
    """Whatever it is given."""
    assert all(each.volume_24h is None for each in read("coinbase", [COINBASE], ["[]"]))


@pytest.mark.parametrize(
    ("pattern", "found"), [("btc*", True), ("*-20251226", True), ("BTCUSDT-26?EC25", True), ("*PERP", False)]
)
def test_patterns_match_either_name(pattern: str, found: bool) -> None:
    """The canonical one or the venue's, in any case."""
    assert matches(read("bybit_linear", [LINEAR], [])[1], pattern) == found


@given(st.decimals(min_value=0, max_value=10**9, places=12, allow_nan=False))
def test_exact_decimals_lose_nothing(number: Decimal) -> None:
    """The text has the same value, no exponent and no needless zero."""
    text = exact(f"{number:f}")
    assert Decimal(text or 0) == number
    assert text is None or ("E" not in text and not ("." in text and text.endswith("0")))
    assert exact(f"{number:e}") == text


def test_the_kind_follows_from_the_name() -> None:
    """Also for names that are not ASCII, which have no other parser."""
    kinds = [
        kind_of(symbol, "USDT")
        for symbol in ("BTCUSDT", "币安USDT", "币安USDT-PERP", "BTC-USDT-SWAP", "XUSDT-20261225")
    ]
    assert kinds == [Kind.SPOT, Kind.SPOT, Kind.PERPETUAL, Kind.PERPETUAL, Kind.FUTURE]
    assert kind_of("BTCUSD-PERP", "USD") is Kind.INVERSE_PERPETUAL
