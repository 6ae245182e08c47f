"""Massive over REST: aggregates and trades of a time, oldest first, by pages.

Source: massive.com/docs, custom bars, trades over REST, knowledge base (read 2026-09). Our choices where they are
silent: any key will do but `wrong`; one that begins with FREE has the free plan (5 requests in any minute, no trades);
any other has no limit, unless one is given; the wording of errors but for those of key, plan and limit; a cursor has
the id to go on at, and the rest of the query; of aggregates, `next_url` begins with the first one that is left out. Not
simulated: corrections.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from mdstream.simulator.candles import Candle, candles
from mdstream.simulator.history import Fill
from mdstream.simulator.listing import MS, Listing
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.requests import RefusedError
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, numbers, parameters
from mdstream.venues.massive.simulated import EXCHANGE, TAPE, WRONG

FREE = "FREE"
MAX_LIMIT = 50_000
MINUTE_NS = 60 * SECOND_NS
UNITS = {"minute": MINUTE_NS, "hour": 60 * MINUTE_NS}
SITE = "https://api.massive.com"
UPGRADE = "Please upgrade your plan at https://massive.com/pricing"

_AGGS = re.compile(r"(/v2/aggs/ticker/([^/]{1,30})/range/([1-9][0-9]{0,2})/([a-z]{1,10}))/([0-9]{1,13})/([0-9]{1,13})")
_NANOSECONDS = re.compile(r"[0-9]{1,19}")
_TRADES = re.compile(r"/v3/trades/([^/]{1,30})")


class MassiveRest(Rest):
    name = "massive"
    venue_budget = Budget(5, 60.0)
    too_many = as_json(
        {
            "status": "ERROR",
            "request_id": "0",
            "error": "You've exceeded the maximum requests per minute, please wait or upgrade your subscription.",
        },
        HTTPStatus.TOO_MANY_REQUESTS,
    )

    def log_in(self, path: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not key or key == WRONG:
            raise _refused("Unknown API Key", HTTPStatus.UNAUTHORIZED)
        return key

    def admit(self, path: str, query: Mapping[str, str], now_ns: int) -> None:
        if self.caller.startswith(FREE) or self.budget is not self.venue_budget:
            super().admit(path, query, now_ns)

    def answer(self, path: str, query: dict[str, str], now_ns: int) -> Answer:
        aggs, trades = _AGGS.fullmatch(path), _TRADES.fullmatch(path)
        if "cursor" in query:
            query = _query_of(query["cursor"])
        if aggs is not None:
            return self._aggs(aggs, query, now_ns)
        if trades is None:
            raise RefusedError(Answer(HTTPStatus.NOT_FOUND, b"404 page not found\n", content_type="text/plain"))
        if self.caller.startswith(FREE):
            message = {"status": "NOT_AUTHORIZED", "message": f"You are not entitled to this data. {UPGRADE}"}
            raise RefusedError(as_json({"request_id": "0", **message}, HTTPStatus.FORBIDDEN))
        return self._trades(path, trades[1], query, now_ns)

    def _aggs(self, match: re.Match[str], query: Mapping[str, str], now_ns: int) -> Answer:
        base, ticker, unit = match[1], match[2], UNITS.get(match[4])
        limit = _limit(query, 5_000)
        if unit is None or query.get("adjusted") != "false" or query.get("sort") != "asc":
            raise _refused("only unadjusted minutes and hours are simulated, oldest first")
        begin_ns, end_ns, width_ns = int(match[5]) * MS, (int(match[6]) + 1) * MS, int(match[3]) * unit
        listing, following = self._exchange.listing(ticker, now_ns), {}
        found: list[Candle] = []
        if listing is not None:
            tape = listing.instrument.tape
            minutes = list(islice(candles(tape, MINUTE_NS, begin_ns, -(-end_ns // width_ns) * width_ns), limit + 1))
            if len(minutes) > limit:  # the last one, and all of its aggregate, are left out
                end_ns = minutes[-1].ts_open_ns // width_ns * width_ns
                cursor = _cursor({name: query[name] for name in ("adjusted", "sort", "limit")})
                following = {"next_url": f"{SITE}{base}/{end_ns // MS}/{match[6]}?cursor={cursor}"}
            found = list(candles(tape, width_ns, begin_ns, end_ns))
        rows = {"results": [_bar(listing, candle) for candle in found]} if listing and found else {}
        counts = {"queryCount": len(found), "resultsCount": len(found), "count": len(found)}
        answer = {"ticker": ticker, "adjusted": False, "status": "OK", "request_id": "0"}
        return as_json(answer | counts | rows | following)

    def _trades(self, path: str, ticker: str, query: Mapping[str, str], now_ns: int) -> Answer:
        limit, (at,) = _limit(query, 1_000), numbers(query, "at", lambda _: _refused("invalid cursor"))
        begin_ns, end_ns = _time(query, "timestamp.gte", 0), _time(query, "timestamp.lt", now_ns)
        if query.get("order") != "asc" or query.get("sort") != "timestamp":
            raise _refused("only order=asc and sort=timestamp are simulated")
        listing = self._exchange.listing(ticker, now_ns)
        answer: dict[str, Any] = {"status": "OK", "request_id": "0", "results": []}
        if listing is not None:
            tape = listing.instrument.tape
            fills = tape.fills(max(tape.id_at(begin_ns), at or 0), tape.id_at(end_ns) - 1)
            found = list(islice(fills, limit + 1))
            if len(found) > limit:
                answer["next_url"] = f"{SITE}{path}?cursor={_cursor({**query, 'at': str(found.pop().trade_id)})}"
            answer["results"] = [_trade(listing, fill) for fill in found]
        return as_json(answer)


def _bar(listing: Listing, candle: Candle) -> dict[str, Any]:
    i, price = listing.instrument, listing.price
    ends = {"o": candle.open, "c": candle.close, "h": candle.high, "l": candle.low}
    return {
        "v": float(listing.size(candle.lots)),
        "vw": round(candle.turnover / candle.lots / 10**i.price_decimals, 4),
        **{name: float(price(ticks)) for name, ticks in ends.items()},
        "t": candle.ts_open_ns // MS,
        "n": candle.count,
    }


def _trade(listing: Listing, fill: Fill) -> dict[str, Any]:
    return {
        "exchange": EXCHANGE,
        "id": str(fill.trade_id),
        "participant_timestamp": fill.ts_ns,
        "price": float(listing.price(fill.ticks)),
        "sequence_number": fill.trade_id,
        "sip_timestamp": fill.ts_ns,
        "size": float(listing.size(fill.lots)),
        "tape": TAPE,
    }


def _time(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not _NANOSECONDS.fullmatch(text):
        raise _refused(f"failed to parse {name}: {text}")
    return int(text)


def _limit(query: Mapping[str, str], default: int) -> int:
    (limit,) = numbers(query, "limit", lambda _: _refused("invalid limit"))
    if limit is not None and not 1 <= limit <= MAX_LIMIT:
        raise _refused(f"limit must be between 1 and {MAX_LIMIT}")
    return limit or default


def _cursor(query: Mapping[str, str]) -> str:
    return urlsafe_b64encode(urlencode(query).encode()).decode()


def _query_of(cursor: str) -> dict[str, str]:
    try:
        return parameters(urlsafe_b64decode(cursor).decode())
    except ValueError:
        raise _refused("invalid cursor") from None


def _refused(error: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> RefusedError:
    return RefusedError(as_json({"status": "ERROR", "request_id": "0", "error": error}, status))
