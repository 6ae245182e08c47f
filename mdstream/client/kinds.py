"""The kinds of events that the client reads, by the name that topics, tables and commands have."""

from __future__ import annotations

import re
from typing import Any

from mdstream.bars.rules import BAR_INTERVAL
from mdstream.errors import SettingsError
from mdstream.events import Bar, BookL2, Quote, Trade

KINDS: dict[str, type[Any]] = {"trades": Trade, "quotes": Quote, "books": BookL2, "bars": Bar}


def checked_symbol(symbol: str) -> str:
    """The symbol as the topics have it. Raises SettingsError for what is none."""
    if not isinstance(symbol, str) or not symbol:
        raise SettingsError(f"{symbol!r} is no symbol: expected one like 'BTCUSDT', each as an argument of its own")
    return symbol.upper()


def checked_interval(interval: str | None) -> str | None:
    """The interval of bars, if it can be one. Raises SettingsError."""
    if interval is not None and not re.fullmatch(BAR_INTERVAL, interval):
        raise SettingsError(f"{interval!r} is no interval of bars: expected one like 1s, 5m, 1h or 1d")
    return interval
