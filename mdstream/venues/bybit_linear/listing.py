"""Bybit V5 linear: instruments-info and the volumes of tickers, in the forms of spot.

Source: bybit-exchange/docs, docs/v5/market/instrument and docs/v5/market/tickers (unconfirmed).
Quirks: the list comes in pages of at most 1,000; `nextPageCursor` is empty in the last one. Sizes are units of base, so
a contract is one.
"""

from __future__ import annotations

import msgspec

from mdstream.venues.bybit.listing import BybitListing, Page

PAGE = "/v5/market/instruments-info?category=linear&limit=1000"

_decode = msgspec.json.Decoder(Page[msgspec.Raw]).decode


class BybitLinearListing(BybitListing):
    name = "bybit_linear"
    targets = (PAGE,)
    volume_targets = ("/v5/market/tickers?category=linear",)

    def more(self, target: str, body: bytes) -> str | None:  # noqa: ARG002
        # It comes ready to be put into an address, with its special characters escaped.
        cursor = _decode(body).result.nextPageCursor
        return f"{PAGE}&cursor={cursor}" if cursor else None
