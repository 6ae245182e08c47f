"""The venues whose past trades can be asked for. To add one: write its file, name it here (docs/repair.md)."""

from __future__ import annotations

from mdstream.history.base import History
from mdstream.history.binance import BinanceHistory
from mdstream.history.coinbase import CoinbaseHistory
from mdstream.history.okx import OkxHistory

HISTORIES: dict[str, type[History]] = {h.name: h for h in (BinanceHistory, CoinbaseHistory, OkxHistory)}
