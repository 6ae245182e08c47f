"""Coinbase Exchange over REST: a product's trades, newest first, paged by trade id. `side` is the MAKER's.

Source: docs.cdp.coinbase.com/exchange, product trades, pagination and rate limits (read 2026). Our choices where they
are silent: a limit above 1000 counts as 1000; a cursor that is no number is a 400; with `before` the trades just above
it are left out if there are more than `limit`, as the venue gives the newest ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from itertools import islice, takewhile
from typing import Any

from mdstream.simulator.exchange import Listing
from mdstream.simulator.history import Fill
from mdstream.simulator.market import SECOND_NS
from mdstream.simulator.rest import Answer, Budget, Rest, as_json, parameters
from mdstream.simulator.text import rfc3339

MAX_LIMIT = 1000
BURST = 1.5
"""Factor by which the requests of a second may exceed the rate."""

_PATH = re.compile(r"/products/([^/]{1,40})/trades/?")
_NUMBER = re.compile(r"[0-9]{1,18}")


class Bucket:
    """A token bucket: filled steadily at the rate of `budget`, holds up to BURST times its requests."""

    def __init__(self, budget: Budget) -> None:
        self._per_ns = budget.most / (budget.per_s * SECOND_NS)
        self._most = self._level = max(1.0, budget.most * BURST)
        self._at_ns = 0

    def take(self, now_ns: int) -> bool:
        """Take a token; False if there is none."""
        self._level = min(self._most, self._level + (now_ns - self._at_ns) * self._per_ns)
        self._at_ns = now_ns
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True


class CoinbaseRest(Rest):
    name = "coinbase"
    venue_budget = Budget(10, 1.0)
    """Requests."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._bucket = Bucket(self.budget)

    def get(self, path: str, query: str, now_ns: int) -> Answer:
        self.requests += 1
        if not self._bucket.take(now_ns):
            self.refused += 1
            return _error(HTTPStatus.TOO_MANY_REQUESTS, "Public rate limit exceeded")
        match = _PATH.fullmatch(path)
        listing = self._exchange.listing(match[1], now_ns) if match else None
        if listing is None:
            return _error(HTTPStatus.NOT_FOUND, "NotFound")
        asked = parameters(query)
        for name in ("after", "before", "limit"):
            if name in asked and not _NUMBER.fullmatch(asked[name]):
                return _error(HTTPStatus.BAD_REQUEST, f"Invalid {name}")
        return _page(listing, {name: int(text) for name, text in asked.items() if name in ("after", "before", "limit")})


def _page(listing: Listing, asked: dict[str, int]) -> Answer:
    tape = listing.instrument.tape
    limit = min(asked.get("limit") or MAX_LIMIT, MAX_LIMIT)
    older: Iterator[Fill] = tape.fills_back(asked.get("after", tape.next_id) - 1)
    newer_than = asked.get("before", 0)
    fills = list(islice(takewhile(lambda fill: fill.trade_id > newer_than, older), limit))
    cursors = {"cb-before": str(fills[0].trade_id), "cb-after": str(fills[-1].trade_id)} if fills else {}
    return as_json([_trade(listing, fill) for fill in fills], headers=cursors)


def _trade(listing: Listing, fill: Fill) -> dict[str, Any]:
    return {
        "trade_id": fill.trade_id,
        "side": "sell" if fill.buy else "buy",
        "size": listing.size(fill.lots),
        "price": listing.price(fill.ticks),
        "time": rfc3339(fill.ts_ns),
    }


def _error(status: HTTPStatus, message: str) -> Answer:
    return as_json({"message": message}, status)
