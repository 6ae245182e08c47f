"""Books kept a second time, slowly and without the package: prices and sizes as Decimals, the best found by looking."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal
from heapq import nlargest, nsmallest
from typing import Any

PlainLevel = tuple[float, float]
Levels = tuple[list[PlainLevel], list[PlainLevel]]
Top = tuple[float | None, float | None, float | None, float | None]


@dataclass
class PlainBook:
    """What Coinbase's snapshot and l2update frames of one product come to."""

    bids: dict[Decimal, Decimal] = field(default_factory=dict)
    asks: dict[Decimal, Decimal] = field(default_factory=dict)

    def take(self, message: dict[str, Any]) -> None:
        """Apply a snapshot or an l2update."""
        if message["type"] == "snapshot":
            self.bids, self.asks = (
                {Decimal(price): Decimal(size) for price, size in message[side]} for side in ("bids", "asks")
            )
        for side, price, size in message.get("changes", ()):
            (self.bids if side == "buy" else self.asks)[Decimal(price)] = Decimal(size)
        for levels in (self.bids, self.asks):
            for price in [price for price, size in levels.items() if not size]:
                del levels[price]

    @property
    def crossed(self) -> bool:
        return bool(self.bids and self.asks) and max(self.bids) >= min(self.asks)

    def best(self) -> Levels:
        """The best twenty levels of each side."""
        bids, asks = nlargest(20, self.bids.items()), nsmallest(20, self.asks.items())
        return [(float(p), float(s)) for p, s in bids], [(float(p), float(s)) for p, s in asks]

    def top(self) -> Top:
        """Best bid, its size, best ask, its size."""
        bid, ask = max(self.bids.items(), default=None), min(self.asks.items(), default=None)
        (b, b_size), (a, a_size) = (map(float, level) if level else (None, None) for level in (bid, ask))
        return b, b_size, a, a_size


def snapshot(bids: list[tuple[str, str]], asks: list[tuple[str, str]], *, product: str, time: str = "") -> bytes:
    """A snapshot as the venue sends it."""
    said = {"type": "snapshot", "product_id": product, "bids": bids, "asks": asks} | ({"time": time} if time else {})
    return json.dumps(said, separators=(",", ":")).encode()


def l2update(changes: list[tuple[str, str, str]], *, product: str, time: str = "") -> bytes:
    """An l2update as the venue sends it: side, price, size."""
    said = {"type": "l2update", "product_id": product, "changes": changes} | ({"time": time} if time else {})
    return json.dumps(said, separators=(",", ":")).encode()


def ticker(bid: str, ask: str, sequence: int, *, product: str) -> bytes:
    """A ticker as the venue sends it, sizes 1."""
    return json.dumps(
        {"type": "ticker", "sequence": sequence, "product_id": product, "price": bid, "best_bid": bid,
         "best_bid_size": "1", "best_ask": ask, "best_ask_size": "1", "time": "2026-01-05T15:00:00.123456Z"},
        separators=(",", ":"),
    ).encode()  # fmt: skip
