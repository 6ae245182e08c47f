"""OKX: history-trades by id, downwards; each fill separately, also where the channel `trades` merges them.

Source: OKX API guide v5, REST, market data (read 2026-08).
Limits: 20 requests per 2 seconds and address. Errors have a `code`, mostly with HTTP 200; beyond the limit it is 50011.
Reach: three months.
"""

from __future__ import annotations

import msgspec

from mdstream.venues.history import Answer, Complaint, History, Limits, Page
from mdstream.venues.spans import Span, count

REQUESTS_PER_S = 20 / 2
SITES = {"ws.okx.com": "OKX", "www.okx.com": "OKX", "wspap.okx.com": "OKX's demo"}
NO_ERROR = "0"
REQUEST_IS_WRONG = "51"
"""The prefix of codes for an error in the request (51001: no such instrument)."""


class _Status(msgspec.Struct):
    code: str
    msg: str = ""


_decode_status = msgspec.json.Decoder(_Status).decode


class OkxHistory(History):
    name = "okx"
    default_url = "https://www.okx.com"
    sites = SITES
    views = frozenset({"trades", "trades-all"})
    newest_first = True
    most_rows = 100
    limits = Limits(per_s=REQUESTS_PER_S / 2, burst=5.0)  # half of it: others may use the same address

    def page(self, venue_symbol: str, view: str, span: Span) -> Page:  # noqa: ARG002  one endpoint for both
        rows = count([span])
        by_id = f"instId={venue_symbol}&type=1&after={span.last + 1}&limit={rows}"
        return Page(f"/api/v5/market/history-trades?{by_id}", rows, 1.0)

    def complaint(self, answer: Answer) -> Complaint | None:
        """{"code":"51001","msg":"Instrument ID does not exist","data":[]}"""
        try:
            status = _decode_status(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        if status.code == NO_ERROR:
            return None
        return Complaint(f"{status.code} {status.msg}", status.code.startswith(REQUEST_IS_WRONG))
