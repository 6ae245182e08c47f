"""OKX v5 over REST: history-trades, newest first, single fills.

Source: OKX API v5 documentation, market data, trades history, and error codes (read 2026-08). Our choices where it is
silent: the newest trades come first with `before`, too; a limit above 100 is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from itertools import islice, takewhile
from typing import Any

from mdstream.simulator.exchange import Allowance, Listing
from mdstream.simulator.history import Fill
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, parameters

MS = 1_000_000
MAX_LIMIT = 100
BY_ID, BY_TIME = "1", "2"

_NUMBER = re.compile(r"[0-9]{1,18}")


class OkxRest(Rest):
    name = "okx"
    venue_budget = Budget(20, 2.0)
    """Requests."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._allowance = Allowance(self.budget.most, self.budget.per_s)

    def get(self, path: str, query: str, now_ns: int) -> Answer:
        self.requests += 1
        if path != "/api/v5/market/history-trades":
            return as_json({"msg": "Not Found", "code": "404"}, HTTPStatus.NOT_FOUND)
        if not self._allowance.take(now_ns):
            self.refused += 1
            return as_json({"msg": "Too Many Requests", "code": "50011"}, HTTPStatus.TOO_MANY_REQUESTS)
        asked = parameters(query)
        if not asked.get("instId"):
            return _error("50014", "Parameter instId can not be empty.", HTTPStatus.BAD_REQUEST)
        wrong = _wrong(asked)
        if wrong is not None:
            return _error("51000", f"Parameter {wrong} error", HTTPStatus.BAD_REQUEST)
        listing = self._exchange.listing(asked["instId"], now_ns)
        if listing is None:
            return _error("51001", "Instrument ID doesn't exist.", HTTPStatus.OK)
        fills = _page(listing, asked)
        return as_json({"code": "0", "msg": "", "data": [_trade(listing, fill) for fill in fills]})


def _wrong(asked: dict[str, str]) -> str | None:
    """The first parameter that the venue does not accept."""
    if asked.get("type", BY_ID) not in (BY_ID, BY_TIME):
        return "type"
    for name in ("after", "before", "limit"):
        if asked.get(name) and not _NUMBER.fullmatch(asked[name]):
            return name
    return "limit" if not 1 <= int(asked.get("limit") or MAX_LIMIT) <= MAX_LIMIT else None


def _page(listing: Listing, asked: dict[str, str]) -> Iterable[Fill]:
    """Trades older than `after` and newer than `before`: ids, or milliseconds if `type` is 2."""
    tape, limit = listing.instrument.tape, int(asked.get("limit") or MAX_LIMIT)
    after, before = asked.get("after"), asked.get("before")
    if asked.get("type", BY_ID) == BY_ID:
        fills = tape.fills_back(int(after) - 1 if after else tape.next_id)
        newer = takewhile(lambda fill: fill.trade_id > int(before or -1), fills)
    else:
        fills = tape.fills_back(tape.id_at(int(after) * MS) - 1 if after else tape.next_id)
        newer = takewhile(lambda fill: fill.ts_ns // MS > int(before or -1), fills)
    return islice(newer, limit)


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


def _error(code: str, message: str, status: HTTPStatus) -> Answer:
    return as_json({"code": code, "msg": message, "data": []}, status)
