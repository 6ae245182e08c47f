"""Kraken spot: OHLC, and Trades upwards from a time.

Source: docs.kraken.com, spot REST, get-ohlc-data, get-recent-trades and the guide to historical data (read 2026-11).
Limits: about one request per second and address. Errors are a list of texts, with HTTP 200.
Reach: of bars the newest 720 of an interval, whatever is asked for; of trades all.
Quirks: candles begin after `since`, and the last one is open still. Whether a trade at `since` comes is not documented
(others have seen it), and `last`, where to go on, is not in every answer: so a page begins a little before the last
trade of the one before, and a few trades come twice. So does a window: a trade of its first microsecond, by the time
that is told, may have been made a little before.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from mdstream.errors import FrameError
from mdstream.venues.kraken.feed import PastTrades, rest_name, times_of
from mdstream.venues.past import Limits, Page
from mdstream.venues.rest import Api, Complaint
from mdstream.venues.timed import Endpoint, Timed

REQUEST_IS_WRONG = ("EQuery:", "EGeneral:Invalid arguments")
BACK_NS = 1_000
"""What a page overlaps with the one before, and more than a time is rounded by."""

_TRADES = re.compile(r"(?P<before>/0/public/Trades\?.*&since=)(?P<since>[0-9]+)(?P<after>.*)")
_decode = msgspec.json.Decoder(PastTrades, strict=False).decode


class _Errors(msgspec.Struct):
    error: list[str]


class KrakenApi(Api):
    name = "kraken"
    default_url = "https://api.kraken.com"
    error = _Errors

    def complaint(self, status: int, error: _Errors) -> Complaint | None:  # noqa: ARG002  errors come with 200
        """{"error":["EQuery:Unknown asset pair"]}"""
        texts = error.error
        return Complaint(", ".join(texts), texts[0].startswith(REQUEST_IS_WRONG)) if texts else None


class KrakenTimed(KrakenApi, Timed):
    sites: ClassVar = {"ws.kraken.com": "Kraken", "api.kraken.com": "Kraken"}
    limits = Limits(per_s=0.5, burst=2.0)  # half of it: others may use the same address
    intervals: ClassVar = {"1m": "1", "5m": "5", "15m": "15", "30m": "30", "1h": "60", "4h": "240", "1d": "1440"}
    bars = Endpoint("/0/public/OHLC?pair={symbol}&interval={interval}&since={before_s}", 720)
    trades = Endpoint("/0/public/Trades?pair={symbol}&since={before_us}000&count={rows}", 1_000)
    reach_ns = 0

    def name_of(self, symbol: str) -> str:
        return rest_name(super().name_of(symbol))

    def more(self, page: Page, body: bytes) -> Page | None:
        asked = _TRADES.fullmatch(page.target)
        times = times_of(_decode(body)) if asked else []
        if asked is None or not times:
            return None
        since = times[-1] - BACK_NS
        if since > int(asked["since"]):
            return page._replace(target=f"{asked['before']}{since}{asked['after']}")
        if len(times) >= page.rows:
            raise FrameError(f"more trades within {2 * BACK_NS} ns of {times[-1]} ns than a page has")
        return None
