"""Coinbase Exchange: /products/{id}/trades, downwards from an id.

Source: docs.cdp.coinbase.com, Exchange REST API, products (read 2026).
Limits: 10 requests per second and address, 15 in a burst; 429 beyond.
Reach: from the first trade on.
"""

from __future__ import annotations

import msgspec

from mdstream.venues.history import OK, Answer, Complaint, History, Limits, Page
from mdstream.venues.spans import Span, count

REQUESTS_PER_S = 10
SITES = {
    "ws-feed.exchange.coinbase.com": "Coinbase Exchange",
    "api.exchange.coinbase.com": "Coinbase Exchange",
    "ws-feed-public.sandbox.exchange.coinbase.com": "Coinbase's sandbox",
    "api-public.sandbox.exchange.coinbase.com": "Coinbase's sandbox",
}


class _Error(msgspec.Struct):
    message: str


_decode_error = msgspec.json.Decoder(_Error).decode


class CoinbaseHistory(History):
    name = "coinbase"
    default_url = "https://api.exchange.coinbase.com"
    sites = SITES
    views = frozenset({""})
    newest_first = True
    most_rows = 1_000
    limits = Limits(per_s=REQUESTS_PER_S / 2, burst=5.0)  # half of it: others may use the same address

    def page(self, venue_symbol: str, view: str, span: Span) -> Page:  # noqa: ARG002  there is only one
        rows = count([span])
        return Page(f"/products/{venue_symbol}/trades?after={span.last + 1}&limit={rows}", rows, 1.0)

    def complaint(self, answer: Answer) -> Complaint | None:
        """{"message":"NotFound"}"""
        if answer.status == OK:
            return None
        try:
            error = _decode_error(answer.body)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        # For an unknown path the message differs: "Route not found".
        final = answer.status == 400 or (answer.status == 404 and error.message == "NotFound")
        return Complaint(error.message, final)
