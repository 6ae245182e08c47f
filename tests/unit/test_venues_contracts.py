"""What contracts are worth: sizes in contracts become sizes in units of base, as one would write them by hand."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdstream.errors import FrameError
from mdstream.events import ListedInstrument
from mdstream.ticks import BookUpdate, QuoteTick
from mdstream.venues.contracts import contract_sizes_of, in_base, read_contract_size, to_base
from mdstream.venues.providers import provider

OKX = provider("okx")
TRADE = (
    b'{"arg":{"channel":"trades","instId":"%s"},'
    b'"data":[{"tradeId":"7","px":"1","sz":"3","side":"buy","ts":"1767625200123"}]}'
)


@pytest.mark.parametrize(
    ("contracts", "contract_size", "base"),
    [("7", "0.01", "0.07"), ("35", "0.01", "0.35"), ("0.3", "0.1", "0.03"), ("3", "0.1", "0.3"), ("0", "0.01", "0"),
     ("1", "10000000", "10000000"), ("123456789.01", "0.0001", "12345.678901")],
)  # fmt: skip
def test_product_is_what_one_writes_by_hand(contracts: str, contract_size: str, base: str) -> None:
    """35 times 0.01 is 0.35; as floats it is 0.35000000000000003."""
    assert in_base(float(contracts), Decimal(contract_size)) == float(base)


@given(st.decimals(0, 10**9, places=6), st.decimals("0.00000001", 10**8, places=8))
def test_product_is_the_float_nearest_to_that_of_the_texts(contracts: Decimal, contract_size: Decimal) -> None:
    """Whatever the venue writes, with up to 15 digits: rounded once, and never along the way."""
    assert in_base(float(contracts), contract_size) == float(contracts * contract_size)


@given(st.floats(0, 1e300), st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True))
def test_sizes_stay_numbers(size: float, text: str) -> None:
    """Any size and any worth: a finite number, or an error."""
    if not Decimal(text):
        return
    if size * float(text) < 1e308:
        assert 0 <= in_base(size, read_contract_size(text.encode())) < float("inf")
    else:
        with pytest.raises(FrameError, match="too many"):
            in_base(size * 10, read_contract_size(text.encode()))


def test_a_size_beyond_all_numbers_is_refused() -> None:
    """A level's may be that large on the wire."""
    with pytest.raises(FrameError, match=re.escape("1e+299 contracts, each worth 10000000000: too many")):
        to_base(BookUpdate("X", [(1, 1e299)], [], None), Decimal(10**10))


def test_a_side_without_orders_stays_without() -> None:
    """There is no size to multiply."""
    quote = QuoteTick("X", None, None, 5.0, 7.0, None)
    to_base(quote, Decimal("0.01"))
    assert (quote.bid_size, quote.ask_size) == (None, 0.07)


@pytest.mark.parametrize("text", [b"0", b"0.0", b"-1", b"+1", b"1e-2", b"nan", b"", b" 1", b"1\n", b"\xff", b"1" * 21])
def test_a_worth_that_is_no_number_above_zero_is_refused(text: bytes) -> None:
    """Its frame becomes a dead letter: no size is made up."""
    with pytest.raises(FrameError, match="header v is no number of units of base that a contract is worth"):
        read_contract_size(text)


def listed(symbol: str, size: str, currency: str) -> ListedInstrument:
    return ListedInstrument(symbol, "okx", symbol, "", "BTC", "", None, None, size, currency, "trading", 1)


def test_worths_are_those_of_linear_contracts() -> None:
    """Of pairs there is nothing to know; a contract worth an amount of another currency is none in base."""
    found = [
        listed("BTCUSDT", "1", "BTC"),
        listed("BTCUSDT-PERP", "0.01", "BTC"),
        listed("BTCUSDC-20261225", "0.0001", "BTC"),
        listed("BTCUSDC-PERP", "100", "USDC"),
        listed("BTC-USD-SWAP", "100", "USD"),
    ]
    assert contract_sizes_of(found) == {"BTCUSDT-PERP": "0.01", "BTCUSDC-20261225": "0.0001"}


@pytest.mark.parametrize(
    ("venue_id", "contract_size", "symbol", "size"),
    [
        (b"BTC-USDT-SWAP", b"0.01", "BTCUSDT-PERP", 0.03),
        (b"BTC-USDT-SWAP", b"", "BTC-USDT-SWAP", 3.0),
        (b"btc-usdt-swap", b"", "BTC-USDT-SWAP", 3.0),
        (b"BTC-USDC-261225", b"0.1", "BTCUSDC-20261225", 0.3),
        (b"BTC-USD-220527", b"", "BTC-USD-220527", 3.0),
        (b"UNI-USD-SWAP", b"", "UNI-USD-SWAP", 3.0),
        (b"BTC-USD-260327-100000-C", b"", "BTC-USD-260327-100000-C", 3.0),
        (b"BTC-USDT", b"", "BTCUSDT", 3.0),
    ],
)
def test_a_name_says_what_sizes_are(venue_id: bytes, contract_size: bytes, symbol: str, size: float) -> None:
    """The canonical one of a contract: units of base. The venue's own: contracts, of which nobody knows the worth."""
    (tick,) = OKX.decode(TRADE % venue_id, contract_size)
    assert (tick.symbol, tick.size) == (symbol, size)  # type: ignore[union-attr]


def test_other_venues_sizes_are_never_multiplied() -> None:
    """Theirs are units of base already, whatever a record's headers say."""
    frame = (
        b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1767625200122,"T":1767625200122,"s":"BTCUSDT",'
        b'"t":6980123456,"p":"93745.20","q":"0.002","X":"MARKET","m":true}}'
    )
    (tick,) = provider("binance_usdm").decode(frame, b"0.01")
    assert tick.size == 0.002  # type: ignore[union-attr]
