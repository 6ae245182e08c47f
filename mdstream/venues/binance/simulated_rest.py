"""Binance spot over REST: aggTrades, historicalTrades and klines, oldest first, exchangeInfo and ticker/24hr, with the
request weights of a minute.

Source: binance/binance-spot-api-docs, rest-api.md and errors.md (read 2026-07). Our choices where they are silent: a
limit above 1000 counts as 1000; requests after a 429 are tolerated ten times in a minute, then a 418 follows for two
minutes. startTime and endTime may be any distance apart. ticker/24hr costs the weight of all symbols. Klines are those
of whole seconds to days; the volumes of takers in them are 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from itertools import islice, takewhile
from typing import Any, ClassVar

from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Aggregate, Fill, Tape
from mdstream.simulator.listing import MS, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import NO_HEADERS, Answer, Budget, Rest, as_json, numbers, step, turnover, whole_seconds

DEFAULT_LIMIT = 500
REFUSALS_BEFORE_BAN = 10
BAN_NS = 120 * SECOND_NS
KLINES = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d")
UNITS = {"s": SECOND_NS, "m": 60 * SECOND_NS, "h": 3_600 * SECOND_NS, "d": 86_400 * SECOND_NS}
WIDTH = 8
"""Decimals of spot's numbers."""
LISTS = ("/exchangeInfo", "/ticker/24hr")
"""The endpoints that a symbol is optional for."""
_SYMBOL = re.compile(r"[A-Z0-9\-_.]{1,20}")
_USED = "Please use WebSocket Streams for live updates to avoid"


class Weights:
    """The weight used in the current minute, and how often a 429 was ignored in it."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._window_ns = budget, int(budget.per_s * SECOND_NS)
        self._window = 0
        self._refused = 0
        self._banned_until_ns = 0
        self.used = 0

    def take(self, weight: int, now_ns: int) -> None:
        """Count a request. Raises RefusedError beyond the budget."""
        if now_ns < self._banned_until_ns:
            raise self._banned(now_ns)
        if now_ns // self._window_ns != self._window:
            self._window, self.used, self._refused = now_ns // self._window_ns, 0, 0
        self.used += weight
        if self.used <= self._budget.most:
            return
        self._refused += 1
        if self._refused > REFUSALS_BEFORE_BAN:
            self._banned_until_ns = now_ns + BAN_NS
            raise self._banned(now_ns)
        sentence = (
            f"Too much request weight used; current limit is {self._budget.most} request weight "
            f"per {self._budget.per_s:g} SECOND. {_USED} polling the API."
        )
        raise _refused(-1003, sentence, HTTPStatus.TOO_MANY_REQUESTS, self._window_ns - now_ns % self._window_ns)

    def _banned(self, now_ns: int) -> RefusedError:
        sentence = f"Way too much request weight used; IP banned until {self._banned_until_ns // MS}. {_USED} bans."
        return _refused(-1003, sentence, HTTPStatus.IM_A_TEAPOT, self._banned_until_ns - now_ns)


class BinanceRest(Rest):
    name = "binance"
    venue_budget = Budget(6000, 60.0)
    """Request weight."""
    endpoints: ClassVar[Mapping[str, tuple[int, set[str]]]] = {
        "/api/v3/aggTrades": (4, {"symbol", "fromId", "startTime", "endTime", "limit"}),
        "/api/v3/historicalTrades": (25, {"symbol", "fromId", "limit"}),
        "/api/v3/klines": (2, {"symbol", "interval", "startTime", "endTime", "limit"}),
        "/api/v3/exchangeInfo": (20, {"symbol", "showPermissionSets"}),
        "/api/v3/ticker/24hr": (80, {"symbol", "type"}),
    }
    """By path: weight and parameters."""
    intervals: ClassVar[tuple[str, ...]] = KLINES
    max_limit: ClassVar[int] = 1_000
    best_match: ClassVar[dict[str, bool]] = {"M": True}
    """A field of aggregates that futures do not have."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._weights = Weights(self.budget)

    def get(self, path: str, query: str, now_ns: int, headers: Mapping[str, str] = NO_HEADERS) -> Answer:
        answer, used = super().get(path, query, now_ns, headers), str(self._weights.used)
        return answer._replace(headers={**answer.headers, "x-mbx-used-weight": used, "x-mbx-used-weight-1m": used})

    def weight(self, path: str, query: Mapping[str, str]) -> int:  # noqa: ARG002  on spot, only the path counts
        """What a request costs."""
        return self.endpoints[path][0]

    def admit(self, path: str, query: Mapping[str, str], now_ns: int) -> None:
        if path not in self.endpoints:
            raise RefusedError(
                Answer(HTTPStatus.NOT_FOUND, b"<html><body><h2>404 Not found</h2></body></html>", {}, "text/html")
            )
        try:
            self._weights.take(self.weight(path, query), now_ns)
        except RefusedError:
            self.refused += 1
            raise

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        _check(query, self.endpoints[path][1], optional=path.endswith(LISTS))
        if path.endswith(LISTS):
            return self._list(path, query.get("symbol"), now_ns)
        first, start, end, limit = numbers(query, "fromId startTime endTime limit", _no_number)
        if limit == 0:
            raise _refused(-1130, "Data sent for parameter 'limit' is not valid.")
        listing = self._exchange.listing(query["symbol"], now_ns)
        if listing is None:
            raise _refused(-1121, "Invalid symbol.")
        tape, most = listing.instrument.tape, min(limit or DEFAULT_LIMIT, self.max_limit)
        if path.endswith("klines"):
            name = query.get("interval", "")
            if name not in self.intervals:
                raise _refused(-1120, "Invalid interval.")
            interval_ns = int(name[:-1]) * UNITS[name[-1]]
            return as_json([*_klines(listing, interval_ns, start, end, most, now_ns)])
        if path.endswith("aggTrades"):
            aggregates = _aggregates(tape, first, start, end, most)
            return as_json([_agg_trade(listing, trade) | self.best_match for trade in aggregates])
        return as_json([_trade(listing, fill) for fill in _fills(tape, first, most)])

    def _list(self, path: str, symbol: str | None, now_ns: int) -> Answer:
        """What is listed, or that symbol of it: its rules, or its ticker."""
        found = [each for each in self._exchange.listed(now_ns) if symbol in (None, each.symbol)]
        if not found:
            raise _refused(-1121, "Invalid symbol.")
        if path.endswith("ticker/24hr"):
            tickers = [self.ticker(each) for each in found]
            return as_json(tickers[0] if symbol else tickers)
        info = {"timezone": "UTC", "serverTime": now_ns // MS, "rateLimits": [], "exchangeFilters": []}
        return as_json(info | {"symbols": [self.rules(each) for each in found]})

    def rules(self, listing: Listing) -> dict[str, Any]:
        """An element of exchangeInfo's symbols."""
        base, quote = self._exchange.split(listing.symbol) or (listing.symbol, "")
        return {
            "symbol": listing.symbol,
            "status": "TRADING",
            "baseAsset": base,
            "baseAssetPrecision": WIDTH,
            "quoteAsset": quote,
            "quotePrecision": WIDTH,
            "quoteAssetPrecision": WIDTH,
            "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"],
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": filters(listing, WIDTH),
            "permissions": [],
            "permissionSets": [],
        }

    def ticker(self, listing: Listing) -> dict[str, Any]:
        """An element of ticker/24hr."""
        i, price = listing.instrument, listing.price
        return {
            "symbol": listing.symbol,
            "openPrice": price(i.open_ticks),
            "highPrice": price(i.high_ticks),
            "lowPrice": price(i.low_ticks),
            "lastPrice": price(i.last.ticks),
            "volume": listing.size(i.day_lots),
            "quoteVolume": turnover(listing),
            "openTime": i.venue_ns // MS - 86_400_000,
            "closeTime": i.venue_ns // MS,
        }


def filters(listing: Listing, width: int = 0) -> list[dict[str, str]]:
    """The rules for prices and sizes, with at least `width` decimals."""
    tick, lot = step(listing.instrument.price_decimals, width), step(listing.instrument.size_decimals, width)
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000.00000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": "9000.00000000", "stepSize": lot},
    ]


def _check(query: dict[str, str], known: set[str], *, optional: bool) -> None:
    """Raises RefusedError for a query without a symbol, unless that is `optional`, or with a parameter not known."""
    symbol, read = query.get("symbol", ""), len(known & query.keys())
    if not symbol and not optional:
        raise _refused(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
    if symbol and not _SYMBOL.fullmatch(symbol):
        raise _illegal("symbol", r"^[A-Z0-9-_.]{1,20}$")
    if read != len(query):
        sentence = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(query)}'."
        raise _refused(-1104, sentence)


def _aggregates(
    tape: Tape, first: int | None, start_ms: int | None, end_ms: int | None, most: int
) -> Iterable[Aggregate]:
    if first is not None:
        if start_ms is not None or end_ms is not None:
            raise _refused(-1128, "Combination of optional parameters invalid.")
        return islice(tape.aggregates(first), most)
    if start_ms is not None:
        after = tape.aggregates(tape.aggregate_at(start_ms * MS))
        return islice(after if end_ms is None else takewhile(lambda t: t.ts_ns // MS <= end_ms, after), most)
    last = tape.next_aggregate_id if end_ms is None else tape.aggregate_at((end_ms + 1) * MS) - 1
    return reversed(list(islice(tape.aggregates_back(last), most)))


def _fills(tape: Tape, first: int | None, most: int) -> Iterable[Fill]:
    if first is not None:
        return islice(tape.fills(first, tape.next_id), most)
    return reversed(list(islice(tape.fills_back(tape.next_id), most)))


def _klines(
    listing: Listing, interval_ns: int, start_ms: int | None, end_ms: int | None, most: int, now_ns: int
) -> Iterator[list[Any]]:
    """Those that begin between the two times, both included, from the first trade on: also of intervals without one."""
    tape = listing.instrument.tape
    earliest = next(iter(tape.fills(tape.first_id, tape.next_id)), None)
    if earliest is None:
        return
    last = min(now_ns, now_ns if end_ms is None else end_ms * MS) // interval_ns
    first = last - most + 1 if start_ms is None else -(-start_ms * MS // interval_ns)
    numbers = range(max(first, earliest.ts_ns // interval_ns), last + 1)[:most]
    if not numbers:
        return
    begin_ns, end_ns = numbers[0] * interval_ns, (numbers[-1] + 1) * interval_ns
    traded = {candle.ts_open_ns: candle for candle in candles(tape, interval_ns, begin_ns, end_ns)}
    before = next(iter(tape.fills_back(tape.id_at(begin_ns) - 1)), earliest).ticks
    for ts_ns in range(begin_ns, end_ns, interval_ns):
        candle = traded.get(ts_ns) or Candle(ts_ns, before, before, before, before, 0, 0, 0)
        before = candle.close
        yield _kline(listing, candle, interval_ns)


def _kline(listing: Listing, candle: Candle, interval_ns: int) -> list[Any]:
    i, price = listing.instrument, listing.price
    turnover = candle.turnover / 10 ** (i.price_decimals + i.size_decimals)
    return [
        candle.ts_open_ns // MS,
        price(candle.open),
        price(candle.high),
        price(candle.low),
        price(candle.close),
        listing.size(candle.lots),
        (candle.ts_open_ns + interval_ns) // MS - 1,
        f"{turnover:.8f}",
        candle.count,
        "0",
        "0",
        "0",
    ]


def _agg_trade(listing: Listing, trade: Aggregate) -> dict[str, Any]:
    return {
        "a": trade.trade_id,
        "p": listing.price(trade.ticks),
        "q": listing.size(trade.lots),
        "f": trade.first_id,
        "l": trade.last_id,
        "T": trade.ts_ns // MS,
        "m": not trade.buy,
    }


def _trade(listing: Listing, fill: Fill) -> dict[str, Any]:
    price, size = listing.price(fill.ticks), listing.size(fill.lots)
    return {
        "id": fill.trade_id,
        "price": price,
        "qty": size,
        "quoteQty": f"{float(price) * float(size):.8f}",
        "time": fill.ts_ns // MS,
        "isBuyerMaker": not fill.buy,
        "isBestMatch": True,
    }


def _no_number(name: str) -> RefusedError:
    return _illegal(name, r"^[0-9]{1,20}$")


def _illegal(name: str, legal: str) -> RefusedError:
    return _refused(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def _refused(
    code: int, sentence: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST, wait_ns: int | None = None
) -> RefusedError:
    headers = {} if wait_ns is None else {"retry-after": str(whole_seconds(wait_ns))}
    return RefusedError(as_json({"code": code, "msg": sentence}, status, headers))
