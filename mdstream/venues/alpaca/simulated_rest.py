"""Alpaca's stocks over REST: bars and trades of a time, oldest first, by pages.

Source: docs.alpaca.markets, historical stock data, market data FAQ (read 2026-09). Our choices where they are silent:
any keys will do but the secret `wrong`; a key that begins with FREE has the free plan (SIP data once it is 15 minutes
old); every feed has the trades of all; 200 requests in any minute with either plan; the wording of errors but for that
of recent SIP data; a page token is the id or time to go on at. Corrections are those of the feed (simulated.py): the
old trade is `incorrect`, the new one follows it; they change no bar.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Any, ClassVar

from mdstream.errors import FrameError
from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, is_number
from mdstream.simulator.text import rfc3339, rfc3339_nanos
from mdstream.venues.alpaca.simulated import CORRECTED, EXCHANGE, FREE, ONE_OF, TAPE, WRONG
from mdstream.venues.times import rfc3339_ns

DEFAULT_LIMIT, MAX_LIMIT = 1_000, 10_000
RECENT_NS = 900 * SECOND_NS
FEEDS = ("iex", "sip", "otc", "boats")
UNITS = {"Min": (60 * SECOND_NS, 59), "Hour": (3_600 * SECOND_NS, 23)}
"""By the word: its length, and how many of it there may be."""
_TIMEFRAME = re.compile(r"([1-9][0-9]?)(Min|Hour)")
_TICKER = re.compile(r"[A-Z]{1,8}(\.[A-Z])?")

Row = tuple[int, dict[str, Any]]
"""A row of an answer, behind the position that a page which begins with it has."""


class AlpacaRest(Rest):
    name = "alpaca"
    venue_budget = Budget(200, 60.0)
    too_many = as_json({"message": "too many requests."}, HTTPStatus.TOO_MANY_REQUESTS)
    resolution_ns: ClassVar[int] = 1
    """Of the times of trades."""
    base: ClassVar[str] = "/v2/stocks/"
    symbol: ClassVar[re.Pattern[str]] = _TICKER
    known: ClassVar[Mapping[str, set[str]]] = {
        "bars": {"timeframe", "adjustment", "feed", "asof", "currency"},
        "trades": {"feed", "asof", "currency"},
    }
    """What an endpoint knows besides the parameters of all."""

    def log_in(self, path: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002
        key, secret = headers.get("apca-api-key-id"), headers.get("apca-api-secret-key")
        if not key or not secret or secret == WRONG:
            raise _refused("forbidden.", HTTPStatus.FORBIDDEN)
        return key

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        kind = path.removeprefix(self.base)
        if kind == path or kind not in self.known:
            raise _refused("endpoint not found.", HTTPStatus.NOT_FOUND)
        self._check(kind, query)
        begin_ns, end_ns = _time(query, "start", 0), _time(query, "end", now_ns) + 1  # `end` is included
        if begin_ns >= end_ns:
            raise _refused("end should not be before start", HTTPStatus.UNPROCESSABLE_ENTITY)
        if query.get("feed") == "sip" and self.caller.startswith(FREE) and end_ns > now_ns - RECENT_NS:
            raise _refused("subscription does not permit querying recent SIP data", HTTPStatus.FORBIDDEN)
        limit = query.get("limit", str(DEFAULT_LIMIT))
        if not is_number(limit) or not 1 <= int(limit) <= MAX_LIMIT:
            raise _refused(f"invalid limit: {limit}")
        listing, position = self._exchange.listing(query["symbols"], now_ns), _position(query.get("page_token"))
        found: list[Row] = []
        if listing is not None:
            rows = self._rows(kind, listing, query, position, begin_ns, end_ns)
            found = list(islice(rows, int(limit) + 1))
        token = _token(found.pop()[0]) if len(found) > int(limit) else None
        by_symbol = {query["symbols"]: [row for _, row in found]} if found else {}
        return as_json({kind: by_symbol, "next_page_token": token})

    def _check(self, kind: str, query: Mapping[str, str]) -> None:
        allowed = {"symbols", "start", "end", "limit", "page_token", "sort"} | self.known[kind]
        if query.keys() - allowed:
            raise _refused(f"unexpected query parameter(s): {', '.join(sorted(query.keys() - allowed))}")
        if not self.symbol.fullmatch(query.get("symbols", "")):
            raise _refused(f"invalid symbol: {query.get('symbols', '')}")  # of several at a time, too: we ask for one
        choices = {"sort": ("asc",), "adjustment": ("raw",), "feed": FEEDS}
        for name, values in choices.items():
            if query.get(name, values[0]) not in values:
                raise _refused(f"invalid {name}: {query[name]}")

    def _rows(
        self, kind: str, listing: Listing, query: Mapping[str, str], position: int, begin_ns: int, end_ns: int
    ) -> Iterator[Row]:
        if kind == "bars":
            every = candles(listing.instrument.tape, _interval_ns(query), max(begin_ns, position), end_ns)
            return ((candle.ts_open_ns, _bar(listing, candle)) for candle in every)
        tape, each = listing.instrument.tape, self.resolution_ns
        first, after = (tape.id_at(-(-ns // each) * each) for ns in (begin_ns, end_ns))  # by the time as it is written
        fills = tape.fills(max(first, position), after - 1)
        return ((fill.trade_id, row) for fill in fills for row in self.trades(listing, fill))

    def trades(self, listing: Listing, fill: Fill) -> Sequence[dict[str, Any]]:
        """A fill, and what became of it."""
        row: dict[str, Any] = {
            "t": rfc3339_nanos(fill.ts_ns),
            "x": EXCHANGE,
            "p": float(listing.price(fill.ticks)),
            "s": float(listing.size(fill.lots)),
            "c": ["@"],
            "i": fill.trade_id,
            "z": TAPE,
        }
        match fill.trade_id % ONE_OF:
            case 0:
                more = {"i": CORRECTED + fill.trade_id, "s": row["s"] + 1, "u": "corrected"}
                return row | {"u": "incorrect"}, row | more
            case turn if turn == ONE_OF // 2:
                return (row | {"u": "canceled"},)
        return (row,)


def _bar(listing: Listing, candle: Candle) -> dict[str, Any]:
    i, price = listing.instrument, listing.price
    ends = {"o": candle.open, "h": candle.high, "l": candle.low, "c": candle.close}
    return {
        "t": f"{rfc3339(candle.ts_open_ns)[:19]}Z",
        **{name: float(price(ticks)) for name, ticks in ends.items()},
        "v": float(listing.size(candle.lots)),
        "n": candle.count,
        "vw": round(candle.turnover / candle.lots / 10**i.price_decimals, 6),
    }


def _interval_ns(query: Mapping[str, str]) -> int:
    match = _TIMEFRAME.fullmatch(query.get("timeframe", ""))
    if match is None or int(match[1]) > UNITS[match[2]][1]:
        raise _refused(f"invalid timeframe: {query.get('timeframe', '')}")
    return int(match[1]) * UNITS[match[2]][0]


def _time(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    try:
        if "T" not in text:
            return int(datetime.fromisoformat(f"{text}T00:00:00+00:00").timestamp()) * SECOND_NS
        return rfc3339_ns(text)
    except (ValueError, FrameError):
        raise _refused(f"invalid {name}: {text}") from None


def _token(position: int) -> str:
    return urlsafe_b64encode(b"%d" % position).decode()


def _position(token: str | None) -> int:
    try:
        return int(urlsafe_b64decode(token)) if token else 0
    except ValueError:
        raise _refused("invalid page_token") from None


def _refused(message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> RefusedError:
    return RefusedError(as_json({"message": message}, status))
