"""Kraken over REST: AssetPairs and Ticker.

Source: docs.kraken.com, spot REST: get-tradable-asset-pairs, get-ticker-information, rate limits (unconfirmed). Our
choices where it is silent: ten requests at once, then one a second; what is refused but for the texts of the errors.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from mdstream.simulator.listing import Listing
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, step
from mdstream.venues.kraken.simulated import SIZE_DECIMALS

V1_NAMES = {"BTC": "XBT", "DOGE": "XDG"}
OLD_COINS = ("XBT", "ETH", "XRP", "LTC", "XDG")
OLD_CURRENCIES = ("USD", "EUR", "GBP", "CAD", "JPY")


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
        write = paths.get(path)
        if write is None:
            return as_json({"error": ["EGeneral:Unknown method"]}, HTTPStatus.NOT_FOUND)
        found = {_key(listing): listing for listing in self._exchange.listed(now_ns)}
        wanted = query["pair"].split(",") if "pair" in query else list(found)
        if not set(wanted) <= found.keys():
            return as_json({"error": ["EQuery:Unknown asset pair"]})
        return as_json({"error": [], "result": {key: write(found[key]) for key in wanted}})


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
