"""The simulated venues. To add one: write its file, name it here."""

from __future__ import annotations

from mdstream.simulator.venues.base import Exchange
from mdstream.simulator.venues.binance import Binance
from mdstream.simulator.venues.coinbase import Coinbase
from mdstream.simulator.venues.okx import Okx

EXCHANGES: dict[str, type[Exchange]] = {e.name: e for e in (Binance, Okx, Coinbase)}
