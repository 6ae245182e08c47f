"""OKX v5 over REST: history-trades, newest first, single fills; history-candles, newest first; public/instruments and
market/tickers.

Source: OKX API v5 documentation, market data, trades history and error codes (read 2026-08), candlesticks history (read
2026-11), public data (unconfirmed). Our choices where it is silent: the newest trades come first with `before`, too; a
limit above the most is an error; the budget is that of all endpoints together; only bars in UTC have six hours or more.
The multiplier of futures is 5: a reader that leaves it out is noticed.
"""

from __future__ import annotations

from http import HTTPStatus

from mdstream.simulator.candles import Candle
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import MS, Listing
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, continuous, newest, numbers, quoted, step, turnover
from mdstream.venues.okx.simulated import contract_size, kind_of

MAX_LIMIT, MAX_CANDLES, DEFAULT_CANDLES = 100, 300, 100
MINUTE_NS = 60_000 * MS
BARS = {"1s": MINUTE_NS // 60} | {f"{n}m": n * MINUTE_NS for n in (1, 3, 5, 15, 30)}
BARS |= {f"{n}H": n * 60 * MINUTE_NS for n in (1, 2, 4)}
BARS |= {"6Hutc": 360 * MINUTE_NS, "12Hutc": 720 * MINUTE_NS, "1Dutc": 1_440 * MINUTE_NS}
BY_ID, BY_TIME = "1", "2"
LISTS = INSTRUMENTS, TICKERS = "/api/v5/public/instruments", "/api/v5/market/tickers"
TYPES = ("SPOT", "SWAP", "FUTURES")


class OkxRest(Rest):
    name = "okx"
    venue_budget = Budget(20, 2.0)
    too_many = as_json({"msg": "Too Many Requests", "code": "50011"}, HTTPStatus.TOO_MANY_REQUESTS)

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        if path in LISTS:
            return self._list(path, query, now_ns)
        if path == "/api/v5/market/history-candles":
            return self._candles(query, now_ns)
        if path != "/api/v5/market/history-trades":
            return as_json({"msg": "Not Found", "code": "404"}, HTTPStatus.NOT_FOUND)
        by = query.get("type", BY_ID)
        if by not in (BY_ID, BY_TIME):
            raise _wrong("type")
        listing, below, above, limit = self._page(query, MAX_LIMIT, now_ns)
        tape = listing.instrument.tape
        if by == BY_TIME:
            below, above = below and tape.id_at(below * MS), above and tape.id_at((above + 1) * MS) - 1
        fills = newest(listing, below=below, above=above, limit=limit or MAX_LIMIT)
        return as_json({"code": "0", "msg": "", "data": [_trade(listing, fill) for fill in fills]})

    def _page(
        self, query: dict[str, str], most: int, now_ns: int
    ) -> tuple[Listing, int | None, int | None, int | None]:
        """What a query asks of which instrument: after, before, limit. Raises RefusedError."""
        if not query.get("instId"):
            raise _refused("50014", "Parameter instId can not be empty.")
        given = {name: text for name, text in query.items() if text}
        below, above, limit = numbers(given, "after before limit", _wrong)
        if limit is not None and not 1 <= limit <= most:
            raise _wrong("limit")
        listing = self._exchange.listing(query["instId"], now_ns)
        if listing is None:
            raise _refused("51001", "Instrument ID doesn't exist.", HTTPStatus.OK)
        return listing, below, above, limit

    def _candles(self, query: dict[str, str], now_ns: int) -> Answer:
        """The newest that begin before `after` and after `before`, also those without trades."""
        listing, below_ms, above_ms, limit = self._page(query, MAX_CANDLES, now_ns)
        interval_ns = BARS.get(query.get("bar") or "1m")
        if interval_ns is None:
            raise _wrong("bar")
        end_ns = min(now_ns + 1, now_ns + 1 if below_ms is None else below_ms * MS)
        least_ns = end_ns - (limit or DEFAULT_CANDLES) * interval_ns
        begin_ns = least_ns if above_ms is None else max(least_ns, (above_ms + 1) * MS)
        found = continuous(listing.instrument.tape, interval_ns, begin_ns, end_ns)
        rows = [_candle(listing, each, is_closed=each.ts_open_ns + interval_ns <= now_ns) for each in found]
        return as_json({"code": "0", "msg": "", "data": rows[::-1]})

    def _list(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        kind, name = query.get("instType", ""), query.get("instId")
        if not kind:
            raise _refused("50014", "Parameter instType can not be empty.")
        if kind not in TYPES:
            raise _wrong("instType")
        found = [each for each in self._exchange.listed(now_ns) if kind_of(each) == kind]
        write = _instrument if path == INSTRUMENTS else _ticker
        return as_json({"code": "0", "msg": "", "data": [write(each) for each in found if name in (None, each.symbol)]})


def _instrument(listing: Listing) -> dict[str, str]:
    base, quote, *_ = listing.symbol.split("-")
    kind, lot = kind_of(listing), listing.size(1)
    nothing = dict.fromkeys(("uly", "instFamily", "settleCcy", "ctVal", "ctMult", "ctValCcy", "ctType", "expTime"), "")
    own = {"baseCcy": base, "quoteCcy": quote} if kind == "SPOT" else _contract(listing, kind, base, quote)
    return nothing | {
        "instType": kind,
        "instId": listing.symbol,
        "tickSz": step(listing.instrument.price_decimals),
        "lotSz": lot,
        "minSz": lot,
        "state": "live",
        **own,
    }


def _contract(listing: Listing, kind: str, base: str, quote: str) -> dict[str, str]:
    multiplier = 5 if kind == "FUTURES" else 1
    value, pair = contract_size(listing.instrument) / multiplier, f"{base}-{quote}"
    return {
        "uly": pair,
        "instFamily": pair,
        "baseCcy": "",
        "quoteCcy": "",
        "settleCcy": quote,
        "ctVal": f"{value.normalize():f}",
        "ctMult": str(multiplier),
        "ctValCcy": base,
        "ctType": "linear",
    }


def _ticker(listing: Listing) -> dict[str, str]:
    i, price, size = listing.instrument, listing.price, listing.size
    return {
        "instType": kind_of(listing),
        "instId": listing.symbol,
        "last": price(i.last.ticks),
        "lastSz": size(i.last.lots),
        "askPx": price(i.top.ask),
        "askSz": size(i.top.ask_lots),
        "bidPx": price(i.top.bid),
        "bidSz": size(i.top.bid_lots),
        "open24h": price(i.open_ticks),
        "high24h": price(i.high_ticks),
        "low24h": price(i.low_ticks),
        "volCcy24h": turnover(listing) if kind_of(listing) == "SPOT" else listing.base_size(i.day_lots),
        "vol24h": size(i.day_lots),
        "ts": str(i.venue_ns // MS),
    }


def _trade(listing: Listing, fill: Fill) -> dict[str, str]:
    return {
        "instId": listing.symbol,
        "side": "buy" if fill.buy else "sell",
        "sz": listing.size(fill.lots),
        "px": listing.price(fill.ticks),
        "source": "0",
        "tradeId": str(fill.trade_id),
        "ts": str(fill.ts_ns // MS),
    }


def _candle(listing: Listing, candle: Candle, *, is_closed: bool) -> list[str]:
    """On spot `vol` is in base and `volCcy` in quote; of a contract they are contracts and base."""
    prices = [listing.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)]
    turnover = quoted(listing, candle)
    currency = turnover if kind_of(listing) == "SPOT" else listing.base_size(candle.lots)
    volumes = listing.size(candle.lots), currency, turnover
    return [str(candle.ts_open_ns // MS), *prices, *volumes, "1" if is_closed else "0"]


def _wrong(name: str) -> RefusedError:
    return _refused("51000", f"Parameter {name} error")


def _refused(code: str, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> RefusedError:
    return RefusedError(as_json({"code": code, "msg": message, "data": []}, status))
