"""Binance COIN-M futures, combined streams: inverse perpetuals and dated futures, quoted in USD.

Channels: aggTrade (also trade), bookTicker, depth20@100ms; ignored as at binance_usdm. REST: the answers of aggTrades.
Source: developers.binance.com, derivatives, coin-margined-futures: websocket-market-streams and
Compressed-Aggregate-Trades-List (read 2026-11).
Quirks: frames are those of binance_usdm, but one address has them all. Sizes are CONTRACTS, of 100 USD for BTC and 10
USD for other coins (`contractSize` of /dapi/v1/exchangeInfo): they are passed on as they are.
Names: BTCUSD_PERP is the perpetual, BTCUSD_260925 a future.
Ids: `a` (aggTrade) counts by one in practice; the venue does not promise it. The rest is as at binance_usdm.
"""

from __future__ import annotations

import re

from mdstream.venues.binance.feed import STREAM, AggTrade, agg_trades
from mdstream.venues.binance_usdm.feed import STREAMS, BinanceUsdm, named
from mdstream.venues.feed import TRADE, Channel, RestAnswer

QUOTES = ("USD",)

_REST = re.compile(rb'\{"request":"/dapi/v1/(?P<channel>aggTrades)\?symbol=(?P<symbol>[A-Z0-9_]{1,60})&')


class BinanceCoinm(BinanceUsdm):
    name = "binance_coinm"
    default_url = "wss://dstream.binance.com/stream"
    sandbox_url = None
    symbols = named(
        "a contract like BTCUSD-PERP or BTCUSD-20260925, or the venue's own form, like BTCUSD_PERP", QUOTES, "PERP"
    )
    default_symbols = ("BTCUSD-PERP", "ETHUSD-PERP")
    contiguous_ids = True
    streams = ("aggTrade", "bookTicker", "depth20@100ms")
    channels = (*STREAMS, Channel("aggTrades", TRADE, RestAnswer[list[AggTrade]], agg_trades))
    heads = (STREAM, _REST)
