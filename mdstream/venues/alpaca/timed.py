"""Alpaca, US stocks: bars and trades of the feed that ALPACA_FEED names.

Source: docs.alpaca.markets, historical stock data, market data FAQ (read 2026-09); alpacahq/alpaca-py.
Limits: 200 requests a minute with the free plan, told in X-RateLimit-Limit and X-RateLimit-Remaining; 10,000 rows a
page.
Reach: from 2016 on. The free plan has SIP data (`sip`, `delayed_sip`) only once it is 15 minutes old.
Bars: `end` is included. A bar leaves out trades by their conditions; one of a day begins at midnight in New York.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote

import msgspec

from mdstream.errors import FrameError, SettingsError
from mdstream.venues.alpaca.feed import FEED
from mdstream.venues.past import Limits, Page
from mdstream.venues.rest import Complaint
from mdstream.venues.timed import Endpoint, Timed

FINAL = frozenset({400, 401, 403, 422})
"""Statuses of what asking again does not change."""
FEEDS = {"delayed_sip": "sip", "test": "iex"}
"""What the feeds are in history, where the name is another one. The symbol FAKEPACA has none."""
RECENT = "recent SIP data"
MAX_TOKEN = 1_000


class _Error(msgspec.Struct):
    message: str


class _Next(msgspec.Struct):
    next_page_token: str | None


_next = msgspec.json.Decoder(_Next).decode


class AlpacaTimed(Timed):
    name = "alpaca"
    default_url = "https://data.alpaca.markets"
    sandbox_url = "https://data.sandbox.alpaca.markets"
    error = _Error
    sites: ClassVar = {
        **dict.fromkeys(("stream.data.alpaca.markets", "data.alpaca.markets"), "Alpaca"),
        **dict.fromkeys(("stream.data.sandbox.alpaca.markets", "data.sandbox.alpaca.markets"), "Alpaca's sandbox"),
    }
    limits = Limits(per_s=200 / 2 / 60, burst=10.0)  # half of it: the keys may be in use elsewhere
    intervals: ClassVar = {"1m": "1Min", "5m": "5Min", "15m": "15Min", "30m": "30Min", "1h": "1Hour"}
    bars = Endpoint(
        "/v2/stocks/bars?symbols={symbol}&timeframe={interval}&start={begin_iso}&end={last_iso}&limit={rows}"
        "&adjustment=raw&feed={feed}&sort=asc",
        10_000,
    )
    trades = Endpoint(
        "/v2/stocks/trades?symbols={symbol}&start={begin_iso}&end={last_iso}&limit={rows}&feed={feed}&sort=asc", 5_000
    )
    remedies: ClassVar[Mapping[int, str]] = {
        401: "set ALPACA_KEY and ALPACA_SECRET",
        403: "set ALPACA_KEY and ALPACA_SECRET of a plan that has this data",
    }

    def headers(self, settings: Mapping[str, str]) -> Mapping[str, str]:
        """Raises SettingsError without the keys."""
        if (remedy := self._provider.dry(settings)) is not None:
            raise SettingsError(f"Alpaca's past cannot be asked for: {remedy}")
        return {"APCA-API-KEY-ID": settings["ALPACA_KEY"], "APCA-API-SECRET-KEY": settings["ALPACA_SECRET"]}

    def fields(self, settings: Mapping[str, str]) -> Mapping[str, str]:
        feed = settings.get(FEED, "iex")
        return {"feed": FEEDS.get(feed, feed)}

    def load(self, headers: Mapping[str, str]) -> float | None:
        limit, left = (headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining"))
        known = all(text.isascii() and text.isdigit() for text in (limit, left)) and float(limit) > 0
        return 1.0 - float(left) / float(limit) if known else None

    def complaint(self, status: int, error: _Error) -> Complaint | None:
        """{"message":"subscription does not permit querying recent SIP data"}"""
        if status not in FINAL:
            return Complaint(error.message, final=False)
        recent = "ask for what is older than 15 minutes (--end), or set ALPACA_FEED=iex"
        remedy = recent if RECENT in error.message else self.remedies.get(status)
        return Complaint(f"{error.message}: {remedy}" if remedy else error.message, final=True)

    def more(self, page: Page, body: bytes) -> Page | None:
        """{"bars":{..},"next_page_token":"QUFQTHxN..."}"""
        token = _next(body).next_page_token
        if not token:
            return None
        if len(token) > MAX_TOKEN:
            raise FrameError(f"a page token of {len(token):,} characters")
        first, _, _ = page.target.partition("&page_token=")
        return page._replace(target=f"{first}&page_token={quote(token, safe='')}")
