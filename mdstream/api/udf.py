"""Our bars in the protocol of TradingView's charting library (UDF): names, questions, answers. Pure.

Source: TradingView's pages on the charting library's UDF adapter and symbol information (read 2026-11).
Times are whole seconds. A resolution is in minutes without a unit, else 1S or 1D. Errors are answers of status 200.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mdstream.api.history import LAST_US, LOOK_BACK_US, MAX_BARS, MAX_ROWS, QueryError, Row, moment, symbol_in, us_of
from mdstream.bars.rules import UNITS
from mdstream.db.schema import OHLCV, OWN_BARS
from mdstream.instruments import is_ticker

SECOND_US = 1_000_000
MAX_FOUND = 100
SOME_CLOSES = 50
MAX_DECIMALS = 10

_WHERE = "exchange = %(exchange)s AND symbol = %(symbol)s AND interval = %(interval)s"
_WITHIN = f"FROM {OHLCV.name} WHERE {_WHERE} AND timestamp >= %(from)s AND timestamp < %(to)s ORDER BY timestamp DESC"
BARS = f"SELECT timestamp, open, high, low, close, volume {_WITHIN} LIMIT %(rows)s"
BEFORE = f"SELECT timestamp {_WITHIN} LIMIT 1"
CLOSES = f"SELECT close {_WITHIN} LIMIT {SOME_CLOSES}"


class Resolutions:
    """The lengths of bars that are made, by UDF's names, shortest first."""

    def __init__(self, intervals: Sequence[str]) -> None:
        ordered = sorted(intervals, key=lambda each: int(each[:-1]) * UNITS[each[-1]])
        self.intervals = {resolution_of(interval): interval for interval in ordered}

    def interval(self, resolution: str) -> str:
        """The interval of a resolution; S and D alone are 1S and 1D. Raises QueryError."""
        found = self.intervals.get(f"1{resolution}" if resolution in ("S", "D") else resolution)
        if found is None:
            raise QueryError(f"no resolution {resolution[:20]!r}: there are {', '.join(self.intervals)}")
        return found

    def config(self) -> dict[str, Any]:
        """The answer of /config."""
        return {
            "supported_resolutions": list(self.intervals),
            "supports_search": True,
            "supports_group_request": False,
            "supports_marks": False,
            "supports_timescale_marks": False,
            "supports_time": True,
            "exchanges": [],
            "symbols_types": [],
        }


def resolution_of(interval: str) -> str:
    """UDF's name of an interval like 1s, 5m, 1h or 1d."""
    number, unit = int(interval[:-1]), interval[-1]
    return {"s": f"{number}S", "m": f"{number}", "h": f"{60 * number}", "d": f"{number}D"}[unit]


class Bars(NamedTuple):
    """A question for bars: the values of BARS, and those of BEFORE for an empty answer."""

    values: dict[str, Any]
    before: dict[str, Any]


def bars_of(given: Mapping[str, str], resolutions: Resolutions) -> Bars:
    """What a request of /history asks for: the bars in [from, to), or the last `countback` before `to`.

    Raises QueryError.
    """
    interval = resolutions.interval(given.get("resolution", ""))
    values = {"exchange": OWN_BARS, "symbol": symbol_of_name(symbol_in(given)), "interval": interval}
    to_us = _number(given, "to", LAST_US // SECOND_US) * SECOND_US
    most_us = MAX_BARS * int(interval[:-1]) * UNITS[interval[-1]] // 1000
    rows = MAX_ROWS
    if "countback" in given:
        rows = min(MAX_ROWS, max(1, _number(given, "countback", 10**9)))
        from_us = max(0, to_us - most_us)
    else:
        from_us = _number(given, "from", LAST_US // SECOND_US) * SECOND_US
        if to_us - from_us > most_us:
            raise QueryError(f"from and to are more than {MAX_BARS} bars apart: narrow them")
    stretch = {"from": moment(from_us), "to": moment(to_us), "rows": rows}
    before = {"from": moment(max(0, from_us - LOOK_BACK_US)), "to": moment(from_us)}
    return Bars(values | stretch, values | before)


def symbol_of_name(name: str) -> str:
    """The symbol that a client means: our exchange may be before it, as in mdstream:BTCUSDT."""
    return name.upper().removeprefix(f"{OWN_BARS.upper()}:")


def _number(given: Mapping[str, str], name: str, most: int) -> int:
    text = given.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= most):
        raise QueryError(f"{name}={text[:20]!r}: expected a whole number")
    return int(text)


def answer_of(found: Sequence[Row], before: Sequence[Row]) -> dict[str, Any]:
    """The answer of /history: bars as BARS finds them, the newest first; without any, when the one before them was."""
    if not found:
        last = {"nextTime": seconds_of(before[0])} if before else {}
        return {"s": "no_data", **last}
    rows = list(reversed(found))
    columns = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
    return {
        "s": "ok",
        "t": [seconds_of(row) for row in rows],
        **{short: [row[name] for row in rows] for short, name in columns.items()},
    }


def seconds_of(row: Row) -> int:
    """When a bar begins, in seconds since 1970."""
    return us_of(row["timestamp"]) // SECOND_US


def error_of(error: object) -> dict[str, Any]:
    """An error as UDF has it."""
    return {"s": "error", "errmsg": str(error)}


def symbol_of(symbol: str, closes: Sequence[Row], resolutions: Resolutions) -> dict[str, Any]:
    """The answer of /symbols: prices with as many decimals as some of the last closes have."""
    decimals = max((_decimals(row["close"]) for row in closes), default=2)
    names = list(resolutions.intervals)
    return {
        "name": symbol,
        "ticker": symbol,
        "description": symbol,
        "type": "stock" if is_ticker(symbol) else "crypto",
        "exchange": OWN_BARS,
        "listed_exchange": OWN_BARS,
        "session": "24x7",
        "timezone": "Etc/UTC",
        "minmov": 1,
        "pricescale": 10**decimals,
        "format": "price",
        "has_intraday": any(name.isdecimal() for name in names),
        "intraday_multipliers": [name for name in names if name.isdecimal()],
        "has_seconds": any(name.endswith("S") for name in names),
        "seconds_multipliers": [name[:-1] for name in names if name.endswith("S")],
        "has_daily": any(name.endswith("D") for name in names),
        "supported_resolutions": names,
        "volume_precision": 8,
        "data_status": "streaming",
    }


def _decimals(price: float) -> int:
    return len(f"{price:.{MAX_DECIMALS}f}".rstrip("0").partition(".")[2])


def search_of(symbols: Sequence[str], text: str, limit: int) -> list[dict[str, str]]:
    """The answer of /search: the symbols that contain a text, first those that begin with it."""
    wanted = text.upper()
    found = sorted(
        (symbol for symbol in symbols if wanted in symbol), key=lambda each: (not each.startswith(wanted), each)
    )
    return [
        {
            "symbol": symbol,
            "full_name": symbol,
            "ticker": symbol,
            "description": symbol,
            "exchange": OWN_BARS,
            "type": "stock" if is_ticker(symbol) else "crypto",
        }
        for symbol in found[:limit]
    ]
