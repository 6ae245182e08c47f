"""Canonical symbols: one instrument has one name at every venue.

A spot pair is base and quote joined in upper case (`BTCUSDT`), a US stock its ticker (`BRK.B`); anything else keeps
the venue's own id in upper case (`BTC-USDT-SWAP`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_JOINED = re.compile(r"[A-Z0-9]{2,40}")
_DASHED = re.compile(r"[A-Z0-9]{1,30}(-[A-Z0-9_]{1,30}){1,5}")


def is_plain(symbol: str) -> bool:
    """Whether a canonical symbol is a spot pair's or a share's; anything else has kept the venue's own id.

    Of what is plain the price is above zero, and the size in units of base; of the rest neither is known.
    """
    return "-" not in symbol and "_" not in symbol


def split_pair(symbol: str, quotes: Sequence[str]) -> tuple[str, str] | None:
    """(base, quote) of a joined spot pair; None where none of `quotes` ends it.

    `quotes` are the quote currencies of one venue, and the first that fits wins. They have to be the venue's own: over
    all venues a joined name is ambiguous (DOTUSD is DOT-USD where USD is traded, and DO-TUSD where TUSD is).
    """
    for quote in quotes:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return None


def join_pair(venue_id: str) -> str:
    """The canonical name of an id that is written with dashes: BTC-USDT is BTCUSDT, BTC-USDT-SWAP stays."""
    upper = venue_id.upper()
    return upper.replace("-", "") if upper.count("-") == 1 else upper


def dash_pair(symbol: str, quotes: Sequence[str]) -> str | None:
    """The dashed id of a canonical symbol, or of an id that has its dashes; None where it is neither.

    The inverse of `join_pair` for every pair whose quote currency is among `quotes` (see `split_pair`).
    """
    upper = symbol.upper().replace("/", "-")
    if _DASHED.fullmatch(upper):
        return upper
    pair = split_pair(upper, quotes) if _JOINED.fullmatch(upper) else None
    return None if pair is None else "-".join(pair)
