"""Bybit V5 spot over REST: kline, newest first; instruments-info and tickers.

Source: bybit-exchange/docs, docs/v5/market/kline (read 2026-11), docs/v5/market/instrument, docs/v5/market/tickers and
docs/v5/rate-limit (unconfirmed).
Our choices where it is silent: another category than the simulated one is invalid; a cursor is the number of rows
before.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from mdstream.simulator.candles import Candle
from mdstream.simulator.listing import MS, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import (
    Answer,
    Budget,
    Rest,
    as_json,
    continuous,
    is_number,
    numbers,
    quoted,
    step,
    turnover,
)

INSTRUMENTS, TICKERS, KLINE = "/v5/market/instruments-info", "/v5/market/tickers", "/v5/market/kline"
DEFAULT_LIMIT, MAX_LIMIT = 500, 1000
DEFAULT_KLINES = 200
MINUTES = {str(n): n for n in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)} | {"D": 1_440}
"""By the venue's names of intervals; weeks and months are not simulated."""


class BybitRest(Rest):
    name = "bybit"
    venue_budget = Budget(600, 5.0)
    too_many = as_json({"retCode": 10006, "retMsg": "Too many visits!", "result": {}}, HTTPStatus.FORBIDDEN)
    category: ClassVar[str] = "spot"
    paged: ClassVar[bool] = False
    """Whether the list of instruments comes in pages."""

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        if path not in (INSTRUMENTS, TICKERS, KLINE):
            return Answer(HTTPStatus.NOT_FOUND, b"404 page not found", {}, "text/plain")
        if query.get("category") != self.category:
            raise _refused("params error: Category is invalid", now_ns)
        if path == KLINE:
            return self._kline(query, now_ns)
        symbol = query.get("symbol")
        found = [each for each in self._exchange.listed(now_ns) if symbol in (None, each.symbol)]
        if path == TICKERS:
            return _answer({"category": self.category, "list": [_ticker(each) for each in found]}, now_ns)
        more = {}
        if self.paged:
            found, cursor = _page(found, query, now_ns)
            more = {"nextPageCursor": cursor}
        return _answer({"category": self.category, "list": [self.rules(each) for each in found]} | more, now_ns)

    def _kline(self, query: dict[str, str], now_ns: int) -> Answer:
        """The newest that begin between `start` and `end`, both included, also those without trades."""

        def wrong(name: str) -> RefusedError:
            return _refused(f"params error: {name} is invalid", now_ns)

        listing, minutes = (
            self._exchange.listing(query.get("symbol", ""), now_ns),
            MINUTES.get(query.get("interval", "")),
        )
        if listing is None:
            raise _refused("Not supported symbols", now_ns)
        if minutes is None:
            raise wrong("interval")
        start_ms, end_ms, limit = numbers(query, "start end limit", wrong)
        if limit is not None and not 1 <= limit <= MAX_LIMIT:
            raise wrong("limit")
        interval_ns = minutes * 60 * SECOND_NS
        end_ns = min(now_ns, now_ns if end_ms is None else end_ms * MS) + 1
        begin_ns = max((start_ms or 0) * MS, end_ns - (limit or DEFAULT_KLINES) * interval_ns)
        found = continuous(listing.instrument.tape, interval_ns, begin_ns, end_ns)
        rows = [_row(listing, candle) for candle in found][::-1]
        return _answer({"symbol": listing.symbol, "category": self.category, "list": rows}, now_ns)

    def rules(self, listing: Listing) -> dict[str, Any]:
        """An element of instruments-info."""
        base, quote = self._exchange.split(listing.symbol) or (listing.symbol, "")
        lot = step(listing.instrument.size_decimals)
        return {
            "symbol": listing.symbol,
            "baseCoin": base,
            "quoteCoin": quote,
            "innovation": "0",
            "status": "Trading",
            "marginTrading": "none",
            "lotSizeFilter": {"basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot},
            "priceFilter": {"tickSize": step(listing.instrument.price_decimals)},
        }


def _page(found: Sequence[Listing], query: dict[str, str], now_ns: int) -> tuple[list[Listing], str]:
    """A page, and where the next one begins."""
    first, limit = query.get("cursor") or "0", query.get("limit") or str(DEFAULT_LIMIT)
    if not is_number(first) or not is_number(limit) or not 1 <= int(limit) <= MAX_LIMIT:
        raise _refused("params error: limit or cursor is invalid", now_ns)
    end = int(first) + int(limit)
    return list(found[int(first) : end]), str(end) if end < len(found) else ""


def _row(listing: Listing, candle: Candle) -> list[str]:
    prices = [listing.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)]
    return [str(candle.ts_open_ns // MS), *prices, listing.size(candle.lots), quoted(listing, candle)]


def _ticker(listing: Listing) -> dict[str, str]:
    i, price, size = listing.instrument, listing.price, listing.size
    return {
        "symbol": listing.symbol,
        "bid1Price": price(i.top.bid),
        "bid1Size": size(i.top.bid_lots),
        "ask1Price": price(i.top.ask),
        "ask1Size": size(i.top.ask_lots),
        "lastPrice": price(i.last.ticks),
        "highPrice24h": price(i.high_ticks),
        "lowPrice24h": price(i.low_ticks),
        "turnover24h": turnover(listing),
        "volume24h": size(i.day_lots),
    }


def _refused(message: str, now_ns: int) -> RefusedError:
    return RefusedError(_answer({}, now_ns, 10001, message))


def _answer(result: dict[str, Any], now_ns: int, code: int = 0, message: str = "OK") -> Answer:
    return as_json({"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now_ns // MS})
