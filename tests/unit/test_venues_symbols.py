"""Names, subscriptions, addresses: what the ingestor asks the providers before a frame arrives."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from venue_ids import CONTRACTS, IDS, ids_of, recorded_ids_of

from mdstream import instruments
from mdstream.errors import SettingsError, SymbolError
from mdstream.instruments import Kind, parse
from mdstream.venues.feed import Keepalive
from mdstream.venues.providers import PROVIDERS, provider

NAMES = sorted(PROVIDERS)
SYMBOLS = [f"C{i}USDT" for i in range(100)]
BYBIT_CHANNELS = ("publicTrade", "orderbook.1", "orderbook.50")


def requested(name: str, symbols: list[str]) -> list[dict[str, Any]]:
    return [json.loads(request.frame) for request in provider(name).subscribe(symbols)]


@pytest.mark.parametrize(
    ("name", "symbol", "venue_id"),
    [
        ("alpaca", "aapl", "AAPL"),
        ("alpaca", "BRK.B", "BRK.B"),
        ("alpaca", "FAKEPACA", "FAKEPACA"),
        ("alpaca_crypto", "BTCUSD", "BTC/USD"),
        ("alpaca_crypto", "btc-usd", "BTC/USD"),
        ("binance", "BTCUSDT", "BTCUSDT"),
        ("binance", "btc-usdt", "BTCUSDT"),
        ("binance", "BTC/USDT", "BTCUSDT"),
        ("bybit", "btc-usdt", "BTCUSDT"),
        ("binance_usdm", "BTCUSDT", "BTCUSDT"),
        ("binance_usdm", "btcusdt-perp", "BTCUSDT"),
        ("binance_usdm", "BTCUSDC-PERP", "BTCUSDC"),
        ("binance_usdm", "BTCUSDT-20260925", "BTCUSDT_260925"),
        ("binance_coinm", "btcusd_perp", "BTCUSD_PERP"),
        ("binance_coinm", "BTCUSD-PERP", "BTCUSD_PERP"),
        ("binance_coinm", "BTCUSD-20260925", "BTCUSD_260925"),
        ("bybit_linear", "BTCUSDT", "BTCUSDT"),
        ("bybit_linear", "btcusdt-perp", "BTCUSDT"),
        ("bybit_linear", "BTCUSDC-PERP", "BTCPERP"),
        ("bybit_linear", "BTCUSDT-20251226", "BTCUSDT-26DEC25"),
        ("bybit_linear", "BTCUSDC-20251226", "BTC-26DEC25"),
        ("kraken", "btcusd", "BTC/USD"),
        ("kraken", "BTC-USD", "BTC/USD"),
        ("kraken", "BTC/USD", "BTC/USD"),
        ("kraken", "DOTUSD", "DOT/USD"),
        ("coinapi", "btc_usdt.binance", "BINANCE_SPOT_BTC_USDT"),
        ("coinapi", "COINBASE_SPOT_BTC_USD", "COINBASE_SPOT_BTC_USD"),
        ("massive", "brk.b", "BRK.B"),
        ("okx", "BTCUSDT", "BTC-USDT"),
        ("okx", "BTC-USDT", "BTC-USDT"),
        ("okx", "btc-usdt-swap", "BTC-USDT-SWAP"),
        ("okx", "BTC-USD-260327", "BTC-USD-260327"),
        ("okx", "btcusdt-perp", "BTC-USDT-SWAP"),
        ("okx", "BTCUSD-20260327", "BTC-USD-260327"),
        ("coinbase", "BTCUSD", "BTC-USD"),
        ("coinbase", "DOTUSD", "DOT-USD"),
        ("coinbase", "SHIBUSD", "SHIB-USD"),
        ("coinbase", "USDTUSD", "USDT-USD"),
    ],
)
def test_to_venue_takes_canonical_and_venue_forms(name: str, symbol: str, venue_id: str) -> None:
    """Whatever the case, with or without its dash."""
    assert provider(name).to_venue(symbol) == venue_id


@pytest.mark.parametrize("symbol", ["", " ", "BTC USDT", "BTCUSDT\n", "$$$", "A" * 100, "BTC-", "-BTC", "BTC--USDT"])
@pytest.mark.parametrize("name", NAMES)
def test_to_venue_refuses_what_no_symbol_looks_like(name: str, symbol: str) -> None:
    """With an error that says who, what, and what is expected."""
    with pytest.raises(SymbolError, match=f"{name} has no symbol of the form .*: expected .* like (BTC|AAPL)"):
        provider(name).to_venue(symbol)


@pytest.mark.parametrize(
    "symbol", ["BTC-USDT-SWAP", "BTCUSDT-PERP", "BTCUSDT-20261225", "BTCUSDT_261225", "BTC-20261225-100000-C"]
)
@pytest.mark.parametrize(
    "name",
    ["alpaca", "alpaca_crypto", "binance", "bybit", "coinapi", "coinbase", "coinbase_advanced", "kraken", "massive"],
)
def test_to_venue_refuses_a_contract_at_a_spot_venue(name: str, symbol: str) -> None:
    """BTCUSDT-PERP must not become the pair BTCUSDTPERP without a word."""
    with pytest.raises(SymbolError, match=f"{name} has no symbol of the form '{symbol}'"):
        provider(name).to_venue(symbol)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("binance_usdm", "BTCUSD_PERP"),
        ("binance_usdm", "BTCUSD-PERP"),
        ("binance_usdm", "BTCUSD_260925"),
        ("binance_usdm", "BTCUSDT_260931"),
        ("binance_usdm", "BTCUSDT_"),
        ("binance_coinm", "BTCUSDT"),
        ("binance_coinm", "BTCUSDT-PERP"),
        ("binance_coinm", "BTCUSD"),
        ("binance_coinm", "BTCUSDT_260925"),
        ("bybit_linear", "BTCUSD"),  # inverse
        ("bybit_linear", "BTCUSD-PERP"),
        ("bybit_linear", "BTC-26DEC25-100000-C"),
        ("bybit_linear", "BTCUSDT-31FEB26"),
        ("bybit_linear", "BTCUSDT-20260231"),
    ],
)
def test_to_venue_refuses_a_contract_of_another_market(name: str, symbol: str) -> None:
    """Which other addresses of the venue have, and days that there are not; a frame of one has no instrument here."""
    with pytest.raises(SymbolError, match=f"{name} has no symbol of the form '{symbol}'"):
        provider(name).to_venue(symbol)
    assert provider(name).from_venue(symbol) == ""


@pytest.mark.parametrize(
    "venue_id", [(name, venue_id) for name in CONTRACTS for venue_id in ids_of(name) if venue_id.isascii()]
)
def test_a_contract_has_the_canonical_symbol_of_its_kind(venue_id: tuple[str, str]) -> None:
    """A perpetual or a future on a pair, and never the name of the pair itself."""
    name, own = venue_id
    found = parse(provider(name).from_venue(own), ("USD1", *instruments.QUOTES))
    assert found is not None
    assert found.kind in (Kind.PERPETUAL, Kind.INVERSE_PERPETUAL, Kind.FUTURE)
    assert (found.kind is Kind.FUTURE) == own[-2:].isdigit()


bases = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)
expiries = st.dates(date(2020, 1, 1), date(2099, 12, 31)).map("{:%Y%m%d}".format)


@pytest.mark.parametrize("name", CONTRACTS)
@given(base=bases, expiry=st.just("PERP") | expiries)
def test_from_venue_undoes_to_venue_for_contracts(name: str, base: str, expiry: str) -> None:
    """Perpetuals and futures of every day."""
    venue, symbol = provider(name), f"{base}{CONTRACTS[name]}-{expiry}"
    assert venue.from_venue(venue.to_venue(symbol)) == symbol


@pytest.mark.parametrize("name", [n for n in NAMES if PROVIDERS[n].default_symbols[0] in ("BTCUSD", "BTCUSDT")])
@given(base=bases, quote=st.sampled_from(["USDT", "USDC", "USD", "EUR", "BTC", "ETH"]))
def test_from_venue_undoes_to_venue(name: str, base: str, quote: str) -> None:
    """A canonical symbol comes back from the venue as it went."""
    assume((name, quote) != ("coinbase_advanced", "USDC"))  # it answers those with the data of USD
    venue = provider(name)
    assert venue.from_venue(venue.to_venue(base + quote)) == base + quote


@pytest.mark.parametrize(
    ("name", "venue_id"), [(name, venue_id) for name in IDS for venue_id in [*ids_of(name), *recorded_ids_of(name)]]
)
def test_to_venue_undoes_from_venue(name: str, venue_id: str) -> None:
    """What the venue lists is asked for under its own name, although its canonical one has no dash."""
    venue = provider(name)
    symbol = venue.from_venue(venue_id)
    assert venue.to_venue(symbol) == venue_id
    assert venue.canonical(venue_id) == symbol


@pytest.mark.parametrize("name", IDS)
def test_instruments_of_a_venue_never_share_a_symbol(name: str) -> None:
    """Else two would be numbered as one."""
    assert len({provider(name).from_venue(venue_id) for venue_id in ids_of(name)}) == len(ids_of(name))


def test_binance_subscribes_to_trades_quotes_and_books_in_chunks() -> None:
    """Three streams a symbol, lower case, at most 200 a request, each request with an id of its own."""
    frames = requested("binance", SYMBOLS)
    assert [frame["method"] for frame in frames] == ["SUBSCRIBE"] * 2
    assert [len(frame["params"]) for frame in frames] == [200, 100]
    assert frames[0]["params"][:3] == ["c0usdt@trade", "c0usdt@bookTicker", "c0usdt@depth20@100ms"]
    assert len({frame["id"] for frame in frames}) == 2


def test_okx_subscribes_to_trades_quotes_and_books_within_its_request_size() -> None:
    """One argument a channel and instrument, requests below 64 KB."""
    frames = requested("okx", ["BTCUSDT", "BTC-USDT-SWAP", *SYMBOLS])
    args = [(arg["channel"], arg["instId"]) for frame in frames for arg in frame["args"]]
    assert {frame["op"] for frame in frames} == {"subscribe"}
    assert args[:4] == [
        ("trades", "BTC-USDT"),
        ("bbo-tbt", "BTC-USDT"),
        ("books", "BTC-USDT"),
        ("trades", "BTC-USDT-SWAP"),
    ]
    assert len(args) == len(set(args)) == 3 * 102
    assert all(len(request.frame) < 64_000 for request in provider("okx").subscribe(SYMBOLS * 2))


def test_bybit_subscribes_symbol_by_symbol() -> None:
    """A bad topic may refuse its whole request; each request has an id, which is all that the answer repeats."""
    assert requested("bybit", ["BTCUSDT", "ETHUSDT"]) == [
        {"req_id": "1", "op": "subscribe", "args": [f"{name}.BTCUSDT" for name in BYBIT_CHANNELS]},
        {"req_id": "2", "op": "subscribe", "args": [f"{name}.ETHUSDT" for name in BYBIT_CHANNELS]},
    ]


def test_kraken_subscribes_channel_by_channel() -> None:
    """All symbols at once: the venue answers each for itself, an error with the request's id for its channel."""
    params = [frame["params"] for frame in requested("kraken", ["BTCUSD", "ETHUSD"])]
    assert params == [
        {"channel": "trade", "symbol": ["BTC/USD", "ETH/USD"], "snapshot": False},
        {"channel": "ticker", "symbol": ["BTC/USD", "ETH/USD"], "event_trigger": "bbo"},
        {"channel": "book", "symbol": ["BTC/USD", "ETH/USD"], "depth": 25},
    ]


def test_coinbase_subscribes_product_by_product_and_to_level2_apart() -> None:
    """The venue rejects a request as a whole, so a bad product or a closed channel takes nothing else with it."""
    frames = requested("coinbase", ["BTCUSD", "ETHUSD"])
    assert [(frame["product_ids"], frame["channels"]) for frame in frames] == [
        (["BTC-USD"], ["matches", "ticker", "heartbeat"]),
        (["ETH-USD"], ["matches", "ticker", "heartbeat"]),
        (["BTC-USD"], ["level2_batch"]),
        (["ETH-USD"], ["level2_batch"]),
    ]


@pytest.mark.parametrize("name", [name for name in NAMES if PROVIDERS[name].has_feed])
def test_url_comes_from_the_environment_where_it_is_set(name: str) -> None:
    """So that any server can stand in for the venue."""
    venue = provider(name)
    scheme = "wss" if venue.framer is None else "tcp"
    assert venue.url({}).startswith(f"{venue.library.scheme if venue.library else scheme}://")
    assert venue.url({f"{name.upper()}_WS_URL": "ws://127.0.0.1:9"}) == "ws://127.0.0.1:9"


@pytest.mark.parametrize(
    ("symbol", "contract"),
    [
        ("AAPL", "STK AAPL SMART USD"),
        ("BRK.B", "STK BRK B SMART USD"),
        ("VOD.LSE", "STK VOD LSE "),
        ("700.SEHK", "STK 700 SEHK "),
        ("EURUSD.IDEALPRO", "CASH EUR IDEALPRO USD"),
        ("ESH26.CME", "FUT ES CME  202603"),
        ("ZNZ30.CBOT", "FUT ZN CBOT  203012"),
        ("AAPL-20260116-250-C", "OPT AAPL SMART USD 20260116 250 C 100"),
        ("AAPL-20260116-7.5-P", "OPT AAPL SMART USD 20260116 7.5 P 100"),
    ],
)
def test_ib_asks_for_a_contract(symbol: str, contract: str) -> None:
    """The fields that describe it; frames come under the canonical name."""
    (request,) = requested("ib", [symbol.lower()])
    assert " ".join(request["contract"].values()) == contract
    assert provider("ib").canonical(symbol) == request["symbol"] == symbol


@pytest.mark.parametrize("symbol", ["EURUSD", "BTC-USD", "BTCUSD-PERP", "ESH6.CME", "EURO.IDEALPRO", "A\u20acB.LSE"])
def test_ib_refuses_what_is_no_contract(symbol: str) -> None:
    """A pair is another venue's instrument; a year of one digit means another contract every ten years."""
    with pytest.raises(SymbolError):
        provider("ib").canonical(symbol)


def test_ib_drops_needless_zeros_of_a_strike() -> None:
    """Else an option would have several names."""
    assert provider("ib").canonical("AAPL-20260116-250.00-C") == "AAPL-20260116-250-C"


def test_ib_address_is_made_of_the_older_settings() -> None:
    """Where IB_WS_URL is not set."""
    ib = provider("ib")
    assert ib.url({"IBKR_PORT": "7497", "IBKR_CLIENT_ID": "3"}) == "ib://127.0.0.1:7497?clientId=3"
    assert ib.url({"IBKR_HOST": "tws", "IB_WS_URL": "ib://gateway:4001"}) == "ib://gateway:4001"


def test_limits_are_the_venues() -> None:
    """1024 streams a connection at Binance; OKX closes after 30 s without anything, and answers `ping`."""
    assert provider("binance").max_symbols * 3 <= 1024
    assert provider("okx").keepalive == Keepalive(20.0, "ping")
    assert provider("binance").subscribe_interval_s >= 1 / 5
    assert provider("coinbase").subscribe_interval_s >= 1 / 100


def test_provider_names_those_there_are_when_asked_for_another() -> None:
    """An unknown name is an error that lists the known ones."""
    with pytest.raises(SettingsError, match=f"no provider 'nasdaq': there are {', '.join(NAMES)}"):
        provider("nasdaq")


@pytest.mark.parametrize(
    ("symbol", "canonical"),
    [
        ("AAPL", "AAPL"),
        ("brk.b", "BRK.B"),
        ("EURUSD.FXCM", "EURUSD.FXCM"),
        ("@ESH26", "@ESH26.IQFEED"),
        ("@ESH26.IQFEED", "@ESH26.IQFEED"),
        ("QCLG26.IQFEED", "QCLG26.IQFEED"),
        ("AAPL.IQFEED", "AAPL"),
    ],
)
def test_iqfeed_s_own_names_get_its_market(symbol: str, canonical: str) -> None:
    """But for those that are canonical: an instrument has one name."""
    assert provider("iqfeed").canonical(symbol) == canonical
    assert provider("iqfeed").to_venue(canonical) == canonical.removesuffix(".IQFEED")


@pytest.mark.parametrize("symbol", ["BTCUSDT", "BTC-USD", "BTCUSDT-PERP", "AAPL-20260116-250-C", "A,B.LSE", "QCLG26"])
def test_iqfeed_refuses_other_venues_instruments(symbol: str) -> None:
    """A name without a sign of its own could be a pair."""
    with pytest.raises(SymbolError):
        provider("iqfeed").canonical(symbol)
