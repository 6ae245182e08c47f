"""Massive: aggregates and trades of US stocks.

Source: massive.com/docs, custom bars and trades over REST, knowledge base (read 2026-09); massive-com/client-python.
Limits: 5 requests a minute with the free plan, which has no trades. Plans with trades have no limit: so these cost next
to nothing here. A page has 50,000 trades, or what comes of 50,000 minutes; the answer's `next_url` leads to the next.
Reach: two years with the free plan, which has a day once it is over.
Bars: `to` is included. A bar leaves out trades by their conditions; one of a day begins at midnight in New York.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import msgspec

from mdstream.errors import FrameError, SettingsError
from mdstream.venues.past import Limits, Page
from mdstream.venues.rest import Complaint, PermanentError
from mdstream.venues.timed import Endpoint, Timed
from mdstream.venues.times import MS

FINAL = frozenset({400, 401, 403, 404})
"""Statuses of what asking again does not change."""
REMEDIES = {401: "set MASSIVE_API_KEY", 403: "set MASSIVE_API_KEY of a plan that has this data"}
MAX_CURSOR = 1_000
UNITS_MS = {"minute": 60_000, "hour": 3_600_000}
_AGGS = re.compile(r"/v2/aggs/ticker/[^/]+/range/([0-9]{1,3})/(minute|hour)/([0-9]{1,13})/[0-9-]{1,13}")
_SUBJECT = re.compile(r"/v3/trades/[A-Z0-9.]{1,30}|/v2/aggs/ticker/[A-Z0-9.]{1,30}/range/[0-9]{1,3}/[a-z]{1,10}/")


class _Error(msgspec.Struct):
    status: str
    error: str = ""
    message: str = ""


class _Row(msgspec.Struct, gc=False):
    t: int = 0


class _Next(msgspec.Struct):
    results: list[_Row] | None = None
    next_url: str | None = None


_next = msgspec.json.Decoder(_Next).decode


class MassiveTimed(Timed):
    name = "massive"
    default_url = "https://api.massive.com"
    error = _Error
    sites: ClassVar = dict.fromkeys(
        (f"{kind}.{domain}" for kind in ("socket", "delayed", "api") for domain in ("massive.com", "polygon.io")),
        "Massive",
    )
    limits = Limits(per_s=4.8 / 60, burst=1.0)  # a little less than five in any minute
    intervals: ClassVar = {"1m": "1/minute", "5m": "5/minute", "15m": "15/minute", "30m": "30/minute", "1h": "1/hour"}
    bars = Endpoint(
        "/v2/aggs/ticker/{symbol}/range/{interval}/{begin_ms}/{last_ms}?adjusted=false&sort=asc&limit=50000", 20_000
    )
    trades = Endpoint(
        "/v3/trades/{symbol}?timestamp.gte={begin_ns}&timestamp.lt={end_ns}&order=asc&sort=timestamp&limit={rows}",
        5_000,
        0.01,
    )

    def ask(self, symbol: str, interval: str, begin_ns: int, end_ns: int) -> Page | PermanentError:
        """In whole milliseconds, as the times of trades are read: each is asked for with the window that it is in."""
        begin_ns, end_ns = (-(-ns // MS) * MS for ns in (begin_ns, end_ns))
        return super().ask(symbol, interval, begin_ns, end_ns)

    def headers(self, settings: Mapping[str, str]) -> Mapping[str, str]:
        """Raises SettingsError without the key."""
        if (remedy := self._provider.dry(settings)) is not None:
            raise SettingsError(f"Massive's past cannot be asked for: {remedy}")
        return {"Authorization": f"Bearer {settings['MASSIVE_API_KEY']}"}

    def complaint(self, status: int, error: _Error) -> Complaint | None:
        """{"status":"NOT_AUTHORIZED","request_id":"..","message":"You are not entitled to this data. .."}"""
        if error.status in ("OK", "DELAYED"):
            return None
        text = f"{error.status}: {error.error or error.message}"
        remedy = REMEDIES.get(status)
        return Complaint(f"{text} ({remedy})" if remedy else text, status in FINAL)

    def more(self, page: Page, body: bytes) -> Page | None:
        """{"results":[..],"next_url":"https://api.massive.com/v3/trades/AAPL?cursor=YXA9..."}

        Only its path and cursor are taken, so that no other host is asked, and a key in it is in no target. A page of
        aggregates has to end with a whole one, as is documented: half of one would stand in place of it.
        """
        answer = _next(body)
        url = answer.next_url
        if not url:
            return None
        try:
            _, _, path, query, _ = urlsplit(url)
            ((cursor, *_), *_) = [values for name, values in parse_qs(query).items() if name == "cursor"]
        except ValueError:
            raise FrameError("a next page without a cursor") from None
        if _subject(path) != _subject(page.target) or len(path) + len(cursor) > MAX_CURSOR:
            raise FrameError("a next page of something else")
        if (aggs := _AGGS.fullmatch(path)) is not None:
            whole_ms = max((row.t for row in answer.results or ()), default=0) + int(aggs[1]) * UNITS_MS[aggs[2]]
            if int(aggs[3]) < whole_ms:
                raise FrameError(f"a page that ends within an aggregate: the next one begins at {aggs[3]} ms")
        return page._replace(target=f"{quote(path)}?cursor={quote(cursor, safe='')}")


def _subject(target: str) -> str:
    match = _SUBJECT.match(target)
    return match[0] if match else target
