"""mdstream/instruments.py: what a canonical symbol means, and its dashed form at a venue."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from venue_ids import ids_of

from mdstream.instruments import Instrument, Kind, from_dashed, has_base_units, is_cash, parse, split_pair, to_dashed
from mdstream.venues.binance import simulated as binance
from mdstream.venues.coinbase import feed as coinbase
from mdstream.venues.okx import feed as okx

QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC")
CHRISTMAS = date(2026, 12, 25)

# ------------------------------------------------------------------------------------------------------ canonical form


@pytest.mark.parametrize(
    ("symbol", "instrument"),
    [
        ("BTCUSDT", Instrument(Kind.SPOT, "BTC", "USDT")),
        ("DOTUSD", Instrument(Kind.SPOT, "DOT", "USD")),
        ("BTCUSDT-PERP", Instrument(Kind.PERPETUAL, "BTC", "USDT")),
        ("BTCUSD-PERP", Instrument(Kind.INVERSE_PERPETUAL, "BTC", "USD")),
        ("BTCUSDT-20261225", Instrument(Kind.FUTURE, "BTC", "USDT", CHRISTMAS)),
        ("BTC-20261225-100000-C", Instrument(Kind.OPTION, "BTC", "", CHRISTMAS, "100000", "C")),
        ("XRP-20261225-0.55-P", Instrument(Kind.OPTION, "XRP", "", CHRISTMAS, "0.55", "P")),
        ("AAPL", Instrument(Kind.STOCK, "AAPL")),
        ("BRK.B", Instrument(Kind.STOCK, "BRK.B")),
        ("VOD.LSE", Instrument(Kind.LISTED, "VOD", market="LSE")),
        ("@ESH26.CME", Instrument(Kind.LISTED, "@ESH26", market="CME")),
    ],
)
def test_symbol_says_what_it_names(symbol: str, instrument: Instrument) -> None:
    """Each kind has a form of its own, and `symbol` writes it again."""
    assert parse(symbol, QUOTES) == instrument
    assert instrument.symbol == symbol


@pytest.mark.parametrize(
    "symbol",
    ["", "btcusdt", "BTC-PERP", "BTCXXX-PERP", "BTCUSDT-20261301", "BTCUSDT\n",
     "BTC-20261225-100000-X", "BTC-20261225--C", "BTC--USDT", "-USDT", "BTC-", "TOOLONG", "BTC USDT"],
)  # fmt: skip
def test_what_has_no_canonical_form_is_no_instrument(symbol: str) -> None:
    """A contract needs a known quote currency and a date that exists."""
    assert parse(symbol, QUOTES) is None


DOCUMENTED = {
    "spot pair": {Kind.SPOT},
    "perpetual contract": {Kind.PERPETUAL, Kind.INVERSE_PERPETUAL},
    "dated future": {Kind.FUTURE},
    "option": {Kind.OPTION},
    "US stock": {Kind.STOCK},
    "anything else that is listed": {Kind.LISTED},
}


def test_documented_forms_are_these() -> None:
    """The first table of docs/instruments.md has a row per kind, each with examples of it."""
    page = (Path(__file__).parents[2] / "docs" / "instruments.md").read_text()
    first = page[page.index("\n| ") + 1 :].partition("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in first.splitlines() if line.startswith("| ")][1:]
    examples = {kind: re.findall("`(.*?)`", text) for kind, _, text in rows}
    found = {kind: {(i := parse(text, QUOTES)) and i.kind for text in texts} for kind, texts in examples.items()}
    assert found == DOCUMENTED


names = st.from_regex(r"[A-Z0-9]{2,8}", fullmatch=True)
pairs = st.tuples(names, st.sampled_from(QUOTES))
dates = st.dates(date(2020, 1, 1), date(2099, 12, 31))
strikes = st.from_regex(r"[1-9][0-9]{0,6}(\.[0-9]{1,3})?", fullmatch=True)
derivatives = st.one_of(
    pairs.map(lambda pair: Instrument(Kind.INVERSE_PERPETUAL if pair[1] == "USD" else Kind.PERPETUAL, *pair)),
    st.tuples(pairs, dates).map(lambda found: Instrument(Kind.FUTURE, *found[0], found[1])),
    st.tuples(names, dates, strikes, st.sampled_from("CP")).map(
        lambda found: Instrument(Kind.OPTION, found[0], "", *found[1:])
    ),
)
listed = st.tuples(st.from_regex(r"@?[A-Z0-9]{1,8}", fullmatch=True), st.sampled_from(["LSE", "CME", "TSE"])).map(
    lambda found: Instrument(Kind.LISTED, found[0], market=found[1])
)
instruments = pairs.map(lambda pair: Instrument(Kind.SPOT, *pair)) | derivatives | listed


@given(instruments)
def test_parse_undoes_symbol(instrument: Instrument) -> None:
    """Nothing is lost in the name, whatever the instrument."""
    assert parse(instrument.symbol, QUOTES) == instrument


@given(st.from_regex(r"[A-Z]{1,5}(\.[A-Z])?", fullmatch=True))
def test_a_provider_of_stocks_reads_every_ticker_as_one(ticker: str) -> None:
    """GBTC is a share, although it ends in a currency: without currencies there are no pairs."""
    assert parse(ticker, ()) == Instrument(Kind.STOCK, ticker)


@given(instruments, instruments)
def test_two_instruments_never_share_a_symbol(one: Instrument, other: Instrument) -> None:
    """A perpetual must not stand in for spot."""
    assert (one.symbol == other.symbol) == (one == other)


@pytest.mark.parametrize(
    ("symbol", "cash"),
    [("BTCUSDT", True), ("BTCXXX", True), ("AAPL", True), ("BRK.B", True), ("BTCUSDT-PERP", False),
     ("BTCUSDT-20261225", False), ("BTC-20261225-100000-C", False), ("ESH26.CME", False), ("BTC-USDT-SWAP", False),
     ("BTC-USD-220527", False), ("BTCUSD_PERP", False)],
)  # fmt: skip
def test_cash_is_what_has_sizes_in_base_and_prices_above_zero(symbol: str, cash: bool) -> None:
    """Pairs and shares, also of currencies that nobody listed here; a venue's own id is neither."""
    assert is_cash(symbol) is cash


@pytest.mark.parametrize(
    ("symbol", "measured"),
    [("BTCUSDT", True), ("AAPL", True), ("BTCUSDT-PERP", True), ("ETHUSDC-20261225", True), ("BTCUSD-PERP", False),
     ("BTCUSD-20261225", False), ("BTC-20261225-100000-C", False), ("ESH26.CME", False), ("BTC-USDT-SWAP", False),
     ("BTC-USD-220527", False), ("-PERP", False)],
)  # fmt: skip
def test_sizes_in_base_are_those_of_pairs_shares_and_linear_contracts(symbol: str, measured: bool) -> None:
    """An inverse contract, an option and whatever keeps a venue's own id may count contracts."""
    assert has_base_units(symbol) is measured


@pytest.mark.parametrize(
    ("symbol", "pair"),
    [
        ("BTCUSDT", ("BTC", "USDT")),
        ("DOTUSD", ("DOT", "USD")),
        ("USDTUSD", ("USDT", "USD")),
        ("USDCEUR", ("USDC", "EUR")),
        ("USDT", None),
        ("BTCXXX", None),
        ("", None),
    ],
)
def test_split_pair_ends_in_one_of_the_quotes_given(symbol: str, pair: tuple[str, str] | None) -> None:
    """The first that fits, with something before it."""
    assert split_pair(symbol, QUOTES) == pair


@pytest.mark.parametrize("quotes", [binance.QUOTES, coinbase.QUOTES, okx.QUOTES], ids=["binance", "coinbase", "okx"])
def test_no_quote_currency_hides_another(quotes: tuple[str, ...]) -> None:
    """TUSD has to come before USD, in which it ends: the first that fits wins."""
    assert [
        quotes.index(other) for i, quote in enumerate(quotes) for other in quotes[i + 1 :] if other.endswith(quote)
    ] == []


# --------------------------------------------------------------------------------------------------------- dashed form


@pytest.mark.parametrize("venue_id", ids_of("okx"))
def test_canonical_symbol_leads_back_to_the_dashed_id(venue_id: str) -> None:
    """For every kind of the venue's instruments, whether they are published under that name or not."""
    assert to_dashed(from_dashed(venue_id), okx.QUOTES) == venue_id
    instrument = parse(venue_id, okx.QUOTES)
    assert instrument is not None
    assert parse(instrument.symbol, okx.QUOTES) == instrument
    assert to_dashed(instrument.symbol, okx.QUOTES) == venue_id


def test_dashed_ids_have_canonical_symbols_of_their_own() -> None:
    """Spot, swap, future and option of one base, linear or inverse: no two share a name."""
    symbols = [found.symbol for venue_id in ids_of("okx") if (found := parse(venue_id, okx.QUOTES))]
    assert len(set(symbols)) == len(ids_of("okx"))
    assert {"BTCUSDT", "BTCUSDT-PERP", "BTCUSD-PERP", "BTCUSDT-20261225", "BTC-20260327-100000-C"} <= set(symbols)


@pytest.mark.parametrize(
    ("venue_id", "symbol"),
    [
        ("BTC-USDT", "BTCUSDT"),
        ("btc-usdt", "BTCUSDT"),
        ("NEW-COIN", "NEWCOIN"),
        ("BTC-USDT-SWAP", "BTCUSDT-PERP"),
        ("btc-usdc-261225", "BTCUSDC-20261225"),
        ("BTC-USD_UM-SWAP", "BTCUSD_UM-PERP"),
        ("BTC-USD-SWAP", "BTC-USD-SWAP"),
        ("BTC-USD-220527", "BTC-USD-220527"),
        ("BTC-TUSD-SWAP", "BTC-TUSD-SWAP"),  # BTCTUSD-PERP could be BTCT in USD, which is inverse
        ("BTC-USDT-269999", "BTC-USDT-269999"),
        ("BTC-USD-260327-100000-C", "BTC-USD-260327-100000-C"),
        ("btcusdt-perp", "BTCUSDT-PERP"),  # not a pair of the currencies BTCUSDT and PERP
        ("BTCUSDT", "BTCUSDT"),
    ],
)
def test_from_dashed_names_pairs_and_linear_contracts(venue_id: str, symbol: str) -> None:
    """Inverse contracts and options are published under the venue's id, in upper case: their sizes are contracts."""
    assert from_dashed(venue_id) == symbol


@pytest.mark.parametrize(
    ("given_as", "venue_id"),
    [
        ("BTCUSDT", "BTC-USDT"),
        ("btcusdt", "BTC-USDT"),
        ("BTC-USDT", "BTC-USDT"),
        ("BTC/USDT", "BTC-USDT"),
        ("NEW-COIN", "NEW-COIN"),  # a quote currency that is not listed here: the venue's form says it all
        ("btc-usdt-swap", "BTC-USDT-SWAP"),
        ("BTCUSDT-PERP", "BTC-USDT-SWAP"),
        ("BTCUSDT-20261225", "BTC-USDT-261225"),
        ("BTC-20261225-100000-C", "BTC-USD-261225-100000-C"),
        ("BTC-USDC-261225-100000-C", "BTC-USDC-261225-100000-C"),  # no canonical name says the currency of an option
        ("BTC-USD-269999", "BTC-USD-269999"),
        ("BTC", None),
        ("AAPL", None),
        ("VOD.LSE", None),
        ("BTC USDT", None),
        ("BTCUSDT\n", None),
        ("-USDT", None),
        ("BTC--USDT", None),
        ("", None),
    ],
)
def test_to_dashed_takes_canonical_and_venue_forms(given_as: str, venue_id: str | None) -> None:
    """None for what is neither."""
    assert to_dashed(given_as, QUOTES) == venue_id


@given(st.from_regex(r"[A-Z0-9]{1,12}", fullmatch=True), st.sampled_from(QUOTES))
def test_from_dashed_undoes_to_dashed(base: str, quote: str) -> None:
    """Canonical to venue and back is the same name, whatever the base currency."""
    dashed = to_dashed(base + quote, QUOTES)
    assert dashed is not None
    assert from_dashed(dashed) == base + quote
