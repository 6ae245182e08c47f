"""How venues name instruments; docs/instruments.md has the canonical names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple

from mdstream.instruments import Kind, from_dashed, parse, split_pair, to_dashed

_NAMED = (Kind.STOCK, Kind.LISTED)
"""Kinds that have a name of their own, not that of a pair."""
_CONTRACT = re.compile(r"(?P<pair>[^\W_]{2,40})-(?:PERP|(?P<expiry>[0-9]{8}))")


class Symbols(NamedTuple):
    """A venue's names. `to_venue` takes a canonical symbol or the venue's own form, and returns None for anything else.

    `from_venue` is its inverse; it may return "" for what is none of the venue's instruments. `form`: what is expected,
    for the error.
    """

    form: str
    to_venue: Callable[[str], str | None]
    from_venue: Callable[[str], str]


def joined(characters: str = "[A-Z0-9]") -> Symbols:
    """Pairs as base and quote joined, like BTCUSDT, of characters that match a pattern."""
    pattern = re.compile(f"{characters}{{2,40}}")

    def to_venue(symbol: str) -> str | None:
        venue_id = from_dashed(symbol.replace("/", "-"))
        return venue_id if pattern.fullmatch(venue_id) else None

    return Symbols("base and quote joined, like BTCUSDT", to_venue, str.upper)


def separated(form: str, quotes: Sequence[str], separator: str = "-", *, contracts: bool = False) -> Symbols:
    """Pairs with a separator, like BTC-USDT or BTC_USDT; with `contracts` also derivatives, like BTC-USDT-SWAP.

    `quotes`: the venue's quote currencies, as in `instruments.split_pair`.
    """

    def to_venue(symbol: str) -> str | None:
        venue_id = to_dashed(symbol.replace(separator, "-"), quotes)
        if venue_id is None or not (contracts or venue_id.count("-") == 1):
            return None
        return venue_id.replace("-", separator)

    return Symbols(form, to_venue, lambda venue_id: from_dashed(venue_id.replace(separator, "-")))


def tickers(*more: str) -> Symbols:
    """US stocks by their tickers; `more`: names of another form that the venue has."""

    def to_venue(symbol: str) -> str | None:
        ticker = symbol.upper()
        found = parse(ticker, ())
        return ticker if ticker in more or (found is not None and found.kind is Kind.STOCK) else None

    return Symbols("a US ticker like AAPL or BRK.B", to_venue, str.upper)


def listed(form: str, name: re.Pattern[str], own: re.Pattern[str], market: str) -> Symbols:
    """Tickers and NAME.MARKET, which the venue writes as we do; its names of neither form get our `market`.

    `name` matches all of the venue's names, `own` what those of neither form have in them: a pair is none of them.
    """

    def to_venue(symbol: str) -> str | None:
        upper = symbol.upper()
        venue_id, found = upper.removesuffix(market), parse(upper, ())
        known = own.search(upper) if found is None else found.kind in _NAMED
        return venue_id if known and name.fullmatch(venue_id) else None

    def from_venue(venue_id: str) -> str:
        found = parse(venue_id, ())
        return venue_id if found is not None and found.kind in _NAMED else venue_id + market

    return Symbols(form, to_venue, from_venue)


class Contract(NamedTuple):
    """A linear or inverse contract on a pair. `expiry`: YYYYMMDD; "" for a perpetual."""

    base: str
    quote: str
    expiry: str = ""

    @property
    def symbol(self) -> str:
        """The canonical symbol."""
        return f"{self.base}{self.quote}-{self.expiry or 'PERP'}"


def contracts(
    form: str, quotes: Sequence[str], write: Callable[[Contract], str], read: Callable[[str], Contract | None]
) -> Symbols:
    """Perpetuals and dated futures on pairs in these `quotes`.

    `write` gives the venue's name of a contract; `read` is its inverse, and returns None for what has not that form.
    """

    def known(found: Contract | None) -> Contract | None:
        return found if found and found.base and found.quote in quotes and _is_expiry(found.expiry) else None

    def canonical(symbol: str) -> Contract | None:
        match = _CONTRACT.fullmatch(symbol)
        pair = match and split_pair(match["pair"], quotes)
        return Contract(*pair, match["expiry"] or "") if match and pair else None

    def to_venue(symbol: str) -> str | None:
        upper = symbol.upper()
        found = known(canonical(upper) or read(upper))
        return write(found) if found else None

    def from_venue(venue_id: str) -> str:
        found = known(read(venue_id.upper()))
        return found.symbol if found else ""

    return Symbols(form, to_venue, from_venue)


def _is_expiry(text: str) -> bool:
    try:
        return not text or bool(date.fromisoformat(text))
    except ValueError:
        return False
