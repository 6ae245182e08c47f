"""Kraken over REST: Trades, oldest first from a time; OHLC, the newest 720; AssetPairs and Ticker.

Source: docs.kraken.com, spot REST: get-recent-trades, get-ohlc-data, the guide to historical data (read 2026-11),
get-tradable-asset-pairs, get-ticker-information, rate limits (unconfirmed). Our choices where it is silent: ten
requests at once, then one a second; what is refused but for the texts of the errors; a trade at `since` comes, as
others have seen it; all orders are market orders.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http import HTTPStatus
from itertools import islice
from typing import Any

from mdstream.simulator.candles import Candle
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, continuous, numbers, step
from mdstream.venues.kraken.simulated import SIZE_DECIMALS

MAX_TRADES, MAX_CANDLES = 1_000, 720
MINUTES = ("1", "5", "15", "30", "60", "240", "1440")
"""The intervals; weeks and half months are not simulated."""
NS_DIGITS = 19
V1_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
OLD_COINS = ("XBT", "ETH", "XRP", "LTC", "XDG")
OLD_CURRENCIES = ("USD", "EUR", "GBP", "CAD", "JPY")

_SINCE = re.compile(r"[0-9]{1,10}|[0-9]{19}")


class KrakenRest(Rest):
    name = "kraken"
    venue_budget = Budget(1, 1.0)
    burst = 10.0
    too_many = as_json({"error": ["EGeneral:Too many requests"]})

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        paths: dict[str, Callable[[Listing], dict[str, Any]]] = {
            "/0/public/AssetPairs": _pair,
            "/0/public/Ticker": _ticker,
        }
        of_one = {"/0/public/Trades": _trades, "/0/public/OHLC": _ohlc}.get(path)
        if of_one is not None:
            listing = self._listing(query.get("pair", ""), now_ns)
            if listing is None:
                return as_json({"error": ["EQuery:Unknown asset pair"]})
            rows, last = of_one(listing, query, now_ns)
            text = f'{{"error":[],"result":{{"{_key(listing)}":[{",".join(rows)}],"last":{last}}}}}'
            return Answer(HTTPStatus.OK, text.encode())
        write = paths.get(path)
        if write is None:
            return as_json({"error": ["EGeneral:Unknown method"]}, HTTPStatus.NOT_FOUND)
        found = {_key(listing): listing for listing in self._exchange.listed(now_ns)}
        wanted = query["pair"].split(",") if "pair" in query else list(found)
        if not set(wanted) <= found.keys():
            return as_json({"error": ["EQuery:Unknown asset pair"]})
        return as_json({"error": [], "result": {key: write(found[key]) for key in wanted}})

    def _listing(self, name: str, now_ns: int) -> Listing | None:
        """The listing of a pair like XBTUSD."""
        symbol = self._exchange.symbol_of(name.removesuffix("XBT") + "BTC" if name.endswith("XBT") else name) or ""
        base, slash, quote = symbol.partition("/")
        new = {old: new for new, old in V1_NAMES.items()}
        return self._exchange.listing(f"{new.get(base, base)}{slash}{quote}", now_ns)


def _trades(listing: Listing, query: dict[str, str], now_ns: int) -> tuple[list[str], str]:  # noqa: ARG001
    """From a time on; without one, the newest."""
    (count,), since = numbers(query, "count", _invalid), _since_ns(query.get("since"))
    tape, most = listing.instrument.tape, min(count or MAX_TRADES, MAX_TRADES)
    first = tape.next_id - most if since is None else tape.id_at(since)
    fills = list(islice(tape.fills(first, tape.next_id), most))
    rows = [
        f'["{listing.price(fill.ticks)}","{listing.size(fill.lots)}",{fill.ts_ns / SECOND_NS:.7f},'
        f'"{"b" if fill.buy else "s"}","m","",{fill.trade_id}]'
        for fill in fills
    ]
    return rows, f'"{fills[-1].ts_ns if fills else since or 0}"'


def _ohlc(listing: Listing, query: dict[str, str], now_ns: int) -> tuple[list[str], str]:
    """Those that begin after a time, the open one last."""
    interval, (since,) = query.get("interval", "1"), numbers(query, "since", _invalid)
    if interval not in MINUTES:
        raise _invalid("interval")
    interval_ns = int(interval) * 60 * SECOND_NS
    least_ns = now_ns - MAX_CANDLES * interval_ns
    begin_ns = least_ns if since is None else max(least_ns, (since + 1) * SECOND_NS)
    found = continuous(listing.instrument.tape, interval_ns, begin_ns, now_ns + 1)
    rows = [_candle(listing, candle) for candle in found]
    return [json.dumps(row, separators=(",", ":")) for row in rows], str(rows[-2][0] if len(rows) > 1 else since or 0)


def _candle(listing: Listing, candle: Candle) -> list[Any]:
    prices = [listing.price(ticks) for ticks in (candle.open, candle.high, candle.low, candle.close)]
    average = listing.price(candle.turnover // candle.lots if candle.lots else candle.close)
    return [candle.ts_open_ns // SECOND_NS, *prices, average, listing.size(candle.lots), candle.count]


def _since_ns(text: str | None) -> int | None:
    """A time in seconds or nanoseconds."""
    if text is not None and not _SINCE.fullmatch(text):
        raise _invalid("since")
    return None if text is None else int(text) * (SECOND_NS if len(text) < NS_DIGITS else 1)


def _invalid(name: str) -> RefusedError:
    return RefusedError(as_json({"error": [f"EGeneral:Invalid arguments:{name}"]}))


def _names(listing: Listing) -> tuple[str, str]:
    base, _, quote = listing.symbol.partition("/")
    return V1_NAMES.get(base, base), V1_NAMES.get(quote, quote)


def _key(listing: Listing) -> str:
    """The name of a pair in answers: those of the oldest pairs have an X before a coin, a Z before a currency."""
    base, quote = _names(listing)
    return f"X{base}Z{quote}" if base in OLD_COINS and quote in OLD_CURRENCIES else f"{base}{quote}"


def _pair(listing: Listing) -> dict[str, Any]:
    base, quote = _names(listing)
    return {
        "altname": f"{base}{quote}",
        "wsname": f"{base}/{quote}",
        "aclass_base": "currency",
        "base": base,
        "aclass_quote": "currency",
        "quote": quote,
        "lot": "unit",
        "pair_decimals": listing.instrument.price_decimals,
        "lot_decimals": SIZE_DECIMALS,
        "lot_multiplier": 1,
        "tick_size": step(listing.instrument.price_decimals),
        "status": "online",
    }


def _ticker(listing: Listing) -> dict[str, Any]:
    i, price, size = listing.instrument, listing.price, listing.size
    return {
        "a": [price(i.top.ask), "1", size(i.top.ask_lots)],
        "b": [price(i.top.bid), "1", size(i.top.bid_lots)],
        "c": [price(i.last.ticks), size(i.last.lots)],
        "v": [size(i.volume_lots), size(i.day_lots)],
        "p": [price(i.open_ticks), price(i.open_ticks)],
        "l": [price(i.low_ticks), price(i.low_ticks)],
        "h": [price(i.high_ticks), price(i.high_ticks)],
        "o": price(i.open_ticks),
    }
