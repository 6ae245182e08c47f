"""How venues name instruments; docs/instruments.md has the canonical names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from mdstream.instruments import Kind, from_dashed, parse, to_dashed


class Symbols(NamedTuple):
    """A venue's names. `to_venue` takes a canonical symbol or the venue's own form, and returns None for anything else.

    `from_venue` is its inverse. `form`: what is expected, for the error.
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
