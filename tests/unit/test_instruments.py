"""Canonical symbols and their dashed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.instruments import dash_pair, is_plain, join_pair, split_pair

QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC")


@pytest.mark.parametrize(
    ("symbol", "plain"),
    [("BTCUSDT", True), ("BRK.B", True), ("BTC-USDT-SWAP", False), ("BTC-USD-220527", False), ("BTCUSD_PERP", False)],
)
def test_plain_is_what_has_not_kept_the_venues_own_id(symbol: str, plain: bool) -> None:
    """Pairs and shares: sizes in units of base, prices above zero."""
    assert is_plain(symbol) is plain


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


@pytest.mark.parametrize(
    ("venue_id", "symbol"),
    [
        ("BTC-USDT", "BTCUSDT"),
        ("btc-usdt", "BTCUSDT"),
        ("BTC-USDT-SWAP", "BTC-USDT-SWAP"),
        ("BTC-USD-220527", "BTC-USD-220527"),
        ("BTC-USD_UM-SWAP", "BTC-USD_UM-SWAP"),
    ],
)
def test_join_pair_joins_spot_pairs_only(venue_id: str, symbol: str) -> None:
    """More than one dash: the venue's own id, in upper case."""
    assert join_pair(venue_id) == symbol


@pytest.mark.parametrize(
    ("given_as", "venue_id"),
    [
        ("BTCUSDT", "BTC-USDT"),
        ("btcusdt", "BTC-USDT"),
        ("BTC-USDT", "BTC-USDT"),
        ("BTC/USDT", "BTC-USDT"),
        ("NEW-COIN", "NEW-COIN"),  # a quote currency that is not listed here: the venue's form says it all
        ("btc-usdt-swap", "BTC-USDT-SWAP"),
        ("BTC", None),
        ("BTC USDT", None),
        ("BTCUSDT\n", None),
        ("-USDT", None),
        ("BTC--USDT", None),
        ("", None),
    ],
)
def test_dash_pair_takes_canonical_and_venue_forms(given_as: str, venue_id: str | None) -> None:
    """None for what is neither."""
    assert dash_pair(given_as, QUOTES) == venue_id


bases = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=12)


@given(bases, st.sampled_from(QUOTES))
def test_join_pair_undoes_dash_pair(base: str, quote: str) -> None:
    """Canonical to venue and back is the same name, whatever the base currency."""
    dashed = dash_pair(base + quote, QUOTES)
    assert dashed is not None
    assert join_pair(dashed) == base + quote
