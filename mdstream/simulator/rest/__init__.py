"""The venues' REST endpoints. To add one: write its file, name it here."""

from __future__ import annotations

from mdstream.simulator.rest.base import Rest
from mdstream.simulator.rest.binance import BinanceRest
from mdstream.simulator.rest.coinbase import CoinbaseRest
from mdstream.simulator.rest.okx import OkxRest

RESTS: dict[str, type[Rest]] = {rest.name: rest for rest in (BinanceRest, OkxRest, CoinbaseRest)}
