"""Bybit V5 spot: kline.

Source: bybit-exchange/docs, docs/v5/market/kline and docs/v5/rate-limit (read 2026-11).
Limits: 600 requests in 5 seconds and address, 403 beyond: then none is answered for ten minutes.
Reach: from the first trade on. An interval without trades has a candle, too.
Quirks: `start` and `end` are both included; errors have a `retCode`, mostly with HTTP 200.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from mdstream.venues.past import Limits
from mdstream.venues.rest import Answer, Api, Complaint, PermanentError, RetryableError
from mdstream.venues.timed import Endpoint, Timed

REQUESTS_PER_S = 600 / 5
SITES = {
    "stream.bybit.com": "Bybit",
    "api.bybit.com": "Bybit",
    "stream-testnet.bybit.com": "Bybit's testnet",
    "api-testnet.bybit.com": "Bybit's testnet",
}
REQUEST_IS_WRONG = 10001
BANNED, BAN_S = 403, 600.0
QUERY = "symbol={symbol}&interval={interval}&start={begin_ms}&end={last_ms}&limit={rows}"
"""What follows the category."""


class _Status(msgspec.Struct):
    retCode: int  # noqa: N815  the venue's name
    retMsg: str = ""  # noqa: N815


class BybitApi(Api):
    name = "bybit"
    default_url = "https://api.bybit.com"
    sandbox_url = "https://api-testnet.bybit.com"
    error = _Status

    def complaint(self, status: int, error: _Status) -> Complaint | None:  # noqa: ARG002  errors come with 200, too
        """{"retCode":10001,"retMsg":"params error: Category is invalid","result":{},..}"""
        if error.retCode == 0:
            return None
        return Complaint(f"{error.retCode} {error.retMsg}", error.retCode == REQUEST_IS_WRONG)

    def judge(self, answer: Answer, *, now_s: float) -> PermanentError | RetryableError | None:
        """403 has no Retry-After: the time is documented."""
        verdict = super().judge(answer, now_s=now_s)
        if answer.status == BANNED and isinstance(verdict, RetryableError) and verdict.wait_s is None:
            return verdict._replace(wait_s=BAN_S)
        return verdict


class BybitTimed(BybitApi, Timed):
    sites = SITES
    limits = Limits(per_s=REQUESTS_PER_S / 2, burst=60.0)  # half of it: others may use the same address
    intervals: ClassVar = {f"{minutes}m": f"{minutes}" for minutes in (1, 3, 5, 15, 30)} | {
        **{f"{hours}h": f"{hours * 60}" for hours in (1, 2, 4, 6, 12)},
        "1d": "D",
    }
    bars = Endpoint(f"/v5/market/kline?category=spot&{QUERY}", 1_000)
