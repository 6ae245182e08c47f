"""Bybit V5 as the simulator serves it: the public websocket, linear. Channels, answers and limits are those of spot.

Source: bybit-exchange/docs, docs/v5/ws/connect and docs/v5/websocket/public (read 2026-07). Our choices where it is
silent: those of spot, and the tick direction `L`, which is that of the taker's side. There are no block trades.
"""

from __future__ import annotations

from dataclasses import replace
from uuid import NAMESPACE_URL, uuid5

from mdstream.simulator.exchange import Exchange
from mdstream.simulator.listing import Listing
from mdstream.simulator.market import Order, Trade
from mdstream.venues.bybit.simulated import CHANNELS as SPOT
from mdstream.venues.bybit.simulated import MAX_ARGS_CHARACTERS, BybitSession, trades
from mdstream.venues.bybit_linear import feed


def _trades(listing: Listing, order: Order) -> list[str]:
    return trades(listing, order, _uuid, f'"L":"{"PlusTick" if order.buy else "MinusTick"}",')


def _uuid(trade: Trade) -> str:
    return str(uuid5(NAMESPACE_URL, str(trade.trade_id)))


CHANNELS = SPOT | {
    "publicTrade": replace(SPOT["publicTrade"], encode=_trades, trade_id=lambda trade, _ts_ns: _uuid(trade))
}


class BybitLinearSession(BybitSession):
    max_args = MAX_ARGS_CHARACTERS  # there is no limit but that of a connection
    acknowledged = ""


class BybitLinear(Exchange):
    name = "bybit_linear"
    path = "/v5/public/linear"
    sessions = BybitLinearSession
    fewest_decimals = 1
    channels = CHANNELS
    quotes = feed.QUOTES
    contracts = feed.BybitLinear.symbols
    endings = ("-PERP",)
