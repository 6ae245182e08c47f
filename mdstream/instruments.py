"""Canonical symbols: an instrument has the same name at every venue.

A spot pair is base and quote joined in upper case (`BTCUSDT`), a US stock its ticker (`BRK.B`); anything else keeps
the venue's own id in upper case (`BTC-USDT-SWAP`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_JOINED = re.compile(r"[A-Z0-9]{2,40}")
_DASHED = re.compile(r"[A-Z0-9]{1,30}(-[A-Z0-9_]{1,30}){1,5}")


def is_plain(symbol: str) -> bool:
    """Whether a canonical symbol is a spot pair's or a share's; anything else keeps the venue's own id.

    A plain symbol's prices are above zero and its sizes are in base units; for others neither is known.
    """
    return "-" not in symbol and "_" not in symbol


def split_pair(symbol: str, quotes: Sequence[str]) -> tuple[str, str] | None:
    """(base, quote) of a joined spot pair; None if it ends with none of `quotes`.

    `quotes` are the quote currencies of one venue; the first that fits wins. They have to be the venue's own: across
    venues a joined name is ambiguous (DOTUSD is DOT-USD where USD is traded, and DO-TUSD where TUSD is).
    """
    for quote in quotes:
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return symbol[: -len(quote)], quote
    return None


def join_pair(venue_id: str) -> str:
    """The canonical name of a dashed id: BTC-USDT becomes BTCUSDT, BTC-USDT-SWAP stays."""
    upper = venue_id.upper()
    return upper.replace("-", "") if upper.count("-") == 1 else upper


def dash_pair(symbol: str, quotes: Sequence[str]) -> str | None:
    """The dashed id of a canonical symbol, or of an id that is already dashed; None if it is neither.

    The inverse of `join_pair` for every pair whose quote currency is among `quotes` (see `split_pair`).
    """
    upper = symbol.upper().replace("/", "-")
    if _DASHED.fullmatch(upper):
        return upper
    pair = split_pair(upper, quotes) if _JOINED.fullmatch(upper) else None
    return None if pair is None else "-".join(pair)
