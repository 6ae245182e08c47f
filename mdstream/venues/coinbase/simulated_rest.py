"""Coinbase Exchange over REST: a product's trades, newest first, paged by trade id (`side` is the MAKER's); candles;
products.

Source: docs.cdp.coinbase.com/exchange, product trades, product candles, pagination and rate limits (read 2026). Our
choices where they are silent: times of candles are seconds; a limit above 1000 counts as 1000; a cursor that is no
number is a 400; with `before` the trades just above it are left out if there are more than `limit`, as the venue gives
the newest ones.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, newest, numbers, step
from mdstream.simulator.text import rfc3339
from mdstream.venues.coinbase.simulated import SIZE_DECIMALS

MAX_LIMIT = 1000

GRANULARITIES = ("60", "300", "900", "3600", "21600", "86400")
MAX_CANDLES = 300

_PATH = re.compile(r"/products/([^/]{1,40})/(trades|candles)/?")


class CoinbaseRest(Rest):
    name = "coinbase"
    venue_budget = Budget(10, 1.0)
    burst = 1.5
    too_many = as_json({"message": "Public rate limit exceeded"}, HTTPStatus.TOO_MANY_REQUESTS)

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        if path.rstrip("/") == "/products":
            return as_json([_product(listing) for listing in self._exchange.listed(now_ns)])
        match = _PATH.fullmatch(path)
        listing = self._exchange.listing(match[1], now_ns) if match else None
        if listing is None:
            raise _refused(HTTPStatus.NOT_FOUND, "NotFound")
        if match is not None and match[2] == "candles":
            return as_json([_candle(listing, candle) for candle in _candles(listing, query, now_ns)])
        below, above, limit = numbers(query, "after before limit", _invalid)
        fills = list(newest(listing, below=below, above=above, limit=min(limit or MAX_LIMIT, MAX_LIMIT)))
        cursors = {"cb-before": str(fills[0].trade_id), "cb-after": str(fills[-1].trade_id)} if fills else {}
        return as_json([_trade(listing, fill) for fill in fills], headers=cursors)


def _product(listing: Listing) -> dict[str, Any]:
    base, _, quote = listing.symbol.partition("-")
    return {
        "id": listing.symbol,
        "base_currency": base,
        "quote_currency": quote,
        "quote_increment": step(listing.instrument.price_decimals),
        "base_increment": step(SIZE_DECIMALS),
        "display_name": listing.symbol,
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "auction_mode": False,
    }


def _trade(listing: Listing, fill: Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "side": "sell" if fill.buy else "buy",
        "size": listing.size(fill.lots),
        "price": listing.price(fill.ticks),
        "time": rfc3339(fill.ts_ns),
    }


def _candles(listing: Listing, query: dict[str, str], now_ns: int) -> list[Candle]:
    """Those that begin between `start` and `end`, both included, newest first; without these, the newest ones."""
    granularity = query.get("granularity", "60")
    if granularity not in GRANULARITIES:
        raise _refused(HTTPStatus.BAD_REQUEST, "Unsupported granularity")
    start_s, end_s = numbers(query, "start end", _invalid)
    each_s = int(granularity)
    if start_s is None or end_s is None:
        end_s = now_ns // SECOND_NS
        start_s = end_s - MAX_CANDLES * each_s
    if (end_s - start_s) // each_s > MAX_CANDLES:
        sentence = f"Count of aggregations requested exceeds {MAX_CANDLES}"
        raise _refused(HTTPStatus.BAD_REQUEST, f"granularity too small for the requested time range. {sentence}")
    tape = listing.instrument.tape
    return list(candles(tape, each_s * SECOND_NS, start_s * SECOND_NS, end_s * SECOND_NS + 1))[::-1]


def _candle(listing: Listing, candle: Candle) -> list[float]:
    price = [float(listing.price(ticks)) for ticks in (candle.low, candle.high, candle.open, candle.close)]
    return [candle.ts_open_ns // SECOND_NS, *price, float(listing.size(candle.lots))]


def _invalid(name: str) -> RefusedError:
    return _refused(HTTPStatus.BAD_REQUEST, f"Invalid {name}")


def _refused(status: HTTPStatus, message: str) -> RefusedError:
    return RefusedError(as_json({"message": message}, status))
