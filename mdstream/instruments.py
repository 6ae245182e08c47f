"""Canonical symbols: an instrument has one name, whichever venue it is traded at, and no two instruments share one.

    spot                BTCUSDT                  base and quote
    perpetual           BTCUSDT-PERP
    inverse perpetual   BTCUSD-PERP              quoted in USD, margined in its base
    future              BTCUSDT-20261225         with its expiry
    option              BTC-20261225-100000-C    base, expiry, strike, call or put
    stock               AAPL, BRK.B              a US ticker, with the letter of its class if it has one
    listed              VOD.LSE, ESH26.CME       as its venue names it, with its market

Many venues have dashed ids instead: BTC-USDT, BTC-USDT-SWAP, BTC-USD-261225, BTC-USD-261225-100000-C (OKX API guide v5,
read 2026-08). `to_dashed` and `from_dashed` map to and from them. docs/instruments.md is the users' page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from enum import Enum
from typing import NamedTuple

QUOTES = ("USDT", "USDC", "USD", "EUR", "GBP", "BTC", "ETH", "DAI", "TRY", "BRL", "AUD", "SGD")
"""Quote currencies of most venues; a venue adds its own. One that ends with another's name has to come before it."""

_NAME = r"[A-Z0-9]{1,30}"
_CURRENCY = r"[A-Z0-9_]{1,30}"
_OPTION = r"-(?P<strike>[0-9]{1,12}(\.[0-9]{1,12})?)-(?P<right>[CP])"
_CONTRACT = re.compile(rf"(?P<pair>{_CURRENCY})-(PERP|(?P<expiry>[0-9]{{8}})(?P<option>{_OPTION})?)")
_LINEAR = re.compile(rf"{_CURRENCY}(?<!USD)-(PERP|[0-9]{{8}})")
_DASHED = re.compile(
    rf"(?P<base>{_NAME})-(?P<quote>{_CURRENCY})(?P<contract>-(SWAP|(?P<expiry>[0-9]{{6}})(?P<option>{_OPTION})?))?"
)
_ANY_DASHED = re.compile(rf"{_NAME}(-{_CURRENCY}){{1,5}}")
_JOINED = re.compile(r"[A-Z0-9]{2,40}")
_TICKER = re.compile(r"[A-Z]{1,5}(\.[A-Z])?")
_LISTED = re.compile(r"(?P<base>\S{1,30})\.(?P<market>[A-Z]{2,8})")


class Kind(Enum):
    SPOT = "spot"
    PERPETUAL = "perpetual"
    INVERSE_PERPETUAL = "inverse perpetual"
    FUTURE = "future"
    OPTION = "option"
    STOCK = "stock"
    LISTED = "listed"


class Instrument(NamedTuple):
    """What a symbol names. `base` is also a stock's ticker and a listed instrument's own name.

    `strike` is text, as the venue writes it; `right` is C or P; `market` is that of a listed instrument.
    """

    kind: Kind
    base: str
    quote: str = ""
    expiry: date | None = None
    strike: str = ""
    right: str = ""
    market: str = ""

    @property
    def symbol(self) -> str:
        """The canonical symbol; the inverse of `parse`."""
        contract = f"{self.expiry:%Y%m%d}" if self.expiry else "PERP" if self.kind in _PERPETUALS else ""
        name = "-".join(filter(None, (self.base + self.quote, contract, self.strike, self.right)))
        return f"{name}.{self.market}" if self.market else name


_PERPETUALS = (Kind.PERPETUAL, Kind.INVERSE_PERPETUAL)


def is_cash(symbol: str) -> bool:
    """Whether a symbol is a pair's or a share's, by its form: prices above zero, sizes in units of base.

    Derivatives and listed instruments may have other prices, and sizes in contracts.
    """
    return "-" not in symbol and "_" not in symbol and not _LISTED.fullmatch(symbol)


def is_ticker(symbol: str) -> bool:
    """Whether a symbol is a share's, by its form. Some pairs with short names have it too."""
    return _TICKER.fullmatch(symbol) is not None


def has_base_units(symbol: str) -> bool:
    """Whether sizes are in units of base, by the symbol's form: of pairs, shares, and linear contracts on pairs.

    A linear contract has a canonical symbol only where its size is given in base, or turned into it. Inverse ones,
    quoted in USD, are contracts of a value in USD.
    """
    return is_cash(symbol) or is_linear(symbol)


def is_linear(symbol: str) -> bool:
    """Whether it is the canonical symbol of a linear contract: a perpetual or future on a pair that is not in USD."""
    return _LINEAR.fullmatch(symbol) is not None


def parse(symbol: str, quotes: Sequence[str]) -> Instrument | None:
    """The instrument of a canonical symbol or a dashed id, both in upper case; None if it is neither.

    `quotes` are the quote currencies of one venue, as in `split_pair`. A ticker that ends in one of them (GBTC) is read
    as a pair: a provider of stocks passes none.
    """
    if match := _CONTRACT.fullmatch(symbol):
        pair = (match["pair"], "") if match["option"] else split_pair(match["pair"], quotes)
        return pair and _contract(*pair, match["expiry"], match)
    if match := _DASHED.fullmatch(symbol):
        return _parse_dashed(match)
    if _JOINED.fullmatch(symbol) and (pair := split_pair(symbol, quotes)):
        return Instrument(Kind.SPOT, *pair)
    if _TICKER.fullmatch(symbol):
        return Instrument(Kind.STOCK, symbol)
    if match := _LISTED.fullmatch(symbol):
        return Instrument(Kind.LISTED, match["base"], market=match["market"])
    return None


def _parse_dashed(match: re.Match[str]) -> Instrument | None:
    base, quote, expiry = match["base"], match["quote"], match["expiry"]
    if not match["contract"]:
        return Instrument(Kind.SPOT, base, quote)
    if not match["option"]:
        return _contract(base, quote, expiry and f"20{expiry}", match)
    return _contract(base, "", f"20{expiry}", match) if quote == "USD" else None


def _contract(base: str, quote: str, expiry: str | None, match: re.Match[str]) -> Instrument | None:
    """A derivative; None if it expires on no date. `expiry`: YYYYMMDD, None for a perpetual."""
    if expiry is None:
        return Instrument(Kind.INVERSE_PERPETUAL if quote == "USD" else Kind.PERPETUAL, base, quote)
    try:
        day = date.fromisoformat(expiry)
    except ValueError:
        return None
    if match["option"]:
        return Instrument(Kind.OPTION, base, "", day, match["strike"], match["right"])
    return Instrument(Kind.FUTURE, base, quote, day)


def split_pair(symbol: str, quotes: Sequence[str]) -> tuple[str, str] | None:
    """(base, quote) of a joined spot pair; None if it ends with none of `quotes`.

    `quotes` are the quote currencies of one venue; the first that fits wins. They have to be the venue's own: across
    venues a joined name is ambiguous (DOTUSD is DOT-USD where USD is traded, and DO-TUSD where TUSD is).
    """
    for quote in quotes:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return None


def from_dashed(venue_id: str) -> str:
    """The symbol that is published for a dashed id: BTC-USDT becomes BTCUSDT, BTC-USDT-SWAP BTCUSDT-PERP.

    Inverse contracts and options keep the id: their sizes are contracts, whatever one is worth.
    """
    upper = venue_id.upper()
    instrument = parse(upper, ())
    if instrument is None or not (instrument.kind is Kind.SPOT or is_linear(instrument.symbol)):
        return upper
    return instrument.symbol


def to_dashed(symbol: str, quotes: Sequence[str]) -> str | None:
    """The dashed id of a canonical symbol, or of an id that is already dashed; None if it is neither.

    The inverse of `from_dashed` for every pair whose quote currency is among `quotes` (see `split_pair`).
    """
    upper = symbol.upper().replace("/", "-")
    instrument = parse(upper, quotes)
    venue_id = upper if instrument is None else _dashed(instrument)
    return venue_id if _ANY_DASHED.fullmatch(venue_id) else None


def _dashed(instrument: Instrument) -> str:
    """The dashed id; the plain symbol of an instrument that has none."""
    if instrument.kind in (Kind.STOCK, Kind.LISTED):
        return instrument.symbol
    expiry = instrument.expiry
    contract = f"{expiry:%y%m%d}" if expiry else "SWAP" if instrument.kind in _PERPETUALS else ""
    quote = instrument.quote or "USD"  # options are named by their base alone
    return "-".join(filter(None, (instrument.base, quote, contract, instrument.strike, instrument.right)))
