"""OKX: public/instruments and the volumes of market/tickers, for spot, swaps and dated futures; not for options.

Source: OKX API guide v5, public data and market data (unconfirmed).
Limits: 20 requests per 2 seconds and address. Errors have a `code`, mostly with HTTP 200.
Quirks: a contract is worth ctVal times ctMult of ctValCcy; both are empty on spot. Derivatives have no baseCcy and
quoteCcy: the pair is in their ids. `volCcy24h` is in quote currency on spot, in base currency on derivatives.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Generic, TypeVar

import msgspec

from mdstream.venues.feed import Name
from mdstream.venues.listing import Listing, Row, Step
from mdstream.venues.okx.history import OkxApi

TYPES = ("SPOT", "SWAP", "FUTURES")
TRADING = "live"

T = TypeVar("T")


class _Data(msgspec.Struct, Generic[T]):
    data: list[T]


class _Instrument(msgspec.Struct):
    instId: Name  # noqa: N815  the venue's name
    state: str
    tickSz: Step  # noqa: N815
    lotSz: Step  # noqa: N815
    ctVal: Step = ""  # noqa: N815
    ctMult: Step = ""  # noqa: N815
    ctValCcy: str = ""  # noqa: N815


class _Ticker(msgspec.Struct):
    instId: str  # noqa: N815
    instType: str  # noqa: N815
    volCcy24h: Step  # noqa: N815
    last: Step


class OkxListing(OkxApi, Listing):
    targets = tuple(f"/api/v5/public/instruments?instType={each}" for each in TYPES)
    answer = _Data[_Instrument]
    volume_targets = tuple(f"/api/v5/market/tickers?instType={each}" for each in TYPES)
    volume_answer = _Data[_Ticker]

    def rows(self, answer: _Data[_Instrument]) -> Iterable[Row]:
        """{"code":"0","msg":"","data":[{"instType":"SWAP","instId":"BTC-USDT-SWAP","ctVal":"0.01","ctMult":"1","ctValCcy":"BTC","tickSz":"0.1","lotSz":"0.01","state":"live",..},..]}"""
        for i in answer.data:
            base, _, rest = i.instId.partition("-")
            size = Decimal(i.ctVal or 1) * Decimal(i.ctMult or 1)
            yield Row(
                i.instId, base, rest.partition("-")[0], i.tickSz, i.lotSz, i.state == TRADING, f"{size:f}", i.ctValCcy
            )

    def volumes(self, answer: _Data[_Ticker]) -> Iterable[tuple[str, float]]:
        """{"code":"0","msg":"","data":[{"instType":"SPOT","instId":"BTC-USDT","last":"93741.2","volCcy24h":"1195234600",..},..]}"""
        for t in answer.data:
            if t.volCcy24h and t.last:  # empty before the first trade
                price = 1.0 if t.instType == "SPOT" else float(t.last)
                yield t.instId, float(t.volCcy24h) * price
