"""Alpaca's crypto over REST, as the stocks are (mdstream/venues/alpaca/simulated_rest.py), but without keys.

Source: docs.alpaca.markets, historical crypto data (read 2026-09). Not simulated: bars of quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from mdstream.simulator.history import Fill
from mdstream.simulator.listing import US, Listing
from mdstream.simulator.text import rfc3339
from mdstream.venues.alpaca.simulated_rest import AlpacaRest


class AlpacaCryptoRest(AlpacaRest):
    name = "alpaca_crypto"
    resolution_ns = US
    base = "/v1beta3/crypto/us/"
    symbol = re.compile(r"[A-Z0-9]{1,20}/[A-Z0-9]{1,20}")
    known: ClassVar = {"bars": {"timeframe"}, "trades": set()}

    def log_in(self, path: str, headers: Mapping[str, str]) -> str:  # noqa: ARG002
        return headers.get("apca-api-key-id", "")

    def trades(self, listing: Listing, fill: Fill) -> Sequence[dict[str, Any]]:
        row = {
            "t": rfc3339(fill.ts_ns),
            "p": float(listing.price(fill.ticks)),
            "s": float(listing.size(fill.lots)),
            "tks": "B" if fill.buy else "S",
            "i": fill.trade_id,
        }
        return (row,)
