"""OKX: history-trades by id, downwards; each fill separately, also where the channel `trades` merges them.

Source: OKX API guide v5, REST, market data (read 2026-08).
Limits: 20 requests per 2 seconds and address. Errors have a `code`, mostly with HTTP 200; beyond the limit it is 50011.
Reach: three months.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from mdstream.venues.history import Endpoint, History
from mdstream.venues.past import Limits, Past
from mdstream.venues.rest import Api, Complaint

REQUESTS_PER_S = 20 / 2
SITES = {"ws.okx.com": "OKX", "www.okx.com": "OKX", "wspap.okx.com": "OKX's demo"}
NO_ERROR = "0"
REQUEST_IS_WRONG = "51"
"""The prefix of codes for an error in the request (51001: no such instrument)."""


class _Status(msgspec.Struct):
    code: str
    msg: str = ""


class OkxApi(Api):
    name = "okx"
    default_url = "https://www.okx.com"
    error = _Status

    def complaint(self, status: int, error: _Status) -> Complaint | None:  # noqa: ARG002  errors come with 200, too
        """{"code":"51001","msg":"Instrument ID does not exist","data":[]}"""
        if error.code == NO_ERROR:
            return None
        return Complaint(f"{error.code} {error.msg}", error.code.startswith(REQUEST_IS_WRONG))


class OkxPast(OkxApi, Past):
    sites = SITES
    limits = Limits(per_s=REQUESTS_PER_S / 2, burst=5.0)  # half of it: others may use the same address


class OkxHistory(OkxPast, History):
    endpoints: ClassVar = dict.fromkeys(
        ("trades", "trades-all"),
        Endpoint("/api/v5/market/history-trades?instId={symbol}&type=1&after={after}&limit={rows}"),
    )
    newest_first = True
    most_rows = 100
