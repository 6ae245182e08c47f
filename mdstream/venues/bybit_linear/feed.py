"""Bybit V5, public linear: perpetuals and dated futures in USDT and USDC. Channels and answers are those of spot.

Channels: publicTrade, orderbook.1, orderbook.50; ignored: other depths, kline, tickers, liquidations.
REST: the answers of market/kline, as backfill publishes them. Trades have no history: recent-trade has the last 1,000,
by no id and no time.
Source: bybit-exchange/docs, docs/v5/ws/connect and docs/v5/websocket/public (read 2026-07).
Quirks: as on spot, but `L` is in every trade, and the acknowledgement of a request has an empty `ret_msg`. A frame has
up to 1,024 trades. Spot has the same names and books at another address: only its trades show it, without `L`. Block
trades (`BT`) are trades like all others here: their price was agreed elsewhere and may be off the book's. Sizes are
units of base.
Names: BTCUSDT and BTCPERP are the perpetuals in USDT and USDC, BTCUSDT-26DEC25 and BTC-26DEC25 futures.
Ids: `i` is a UUID, in no order. `u` rises per channel.
Books and quotes: as on spot.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mdstream.errors import FrameError
from mdstream.ticks import TradeTick
from mdstream.venues.bybit.feed import Bybit, Trades, trades
from mdstream.venues.feed import TRADE, Channel
from mdstream.venues.symbols import Contract, contracts

SPOT = "a trade of Bybit spot, which bybit reads: BYBIT_LINEAR_WS_URL has to lead to linear"
QUOTES = ("USDT", "USDC")
MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]

_TOPIC = re.compile(rb'\{\s*"topic"\s*:\s*"(?P<channel>[A-Za-z0-9._-]{1,40})\.(?P<symbol>[A-Z0-9-]{1,40})"')
_REST = re.compile(rb'\{"request":"/v5/market/(?P<channel>kline)\?category=linear&symbol=(?P<symbol>[A-Z0-9-]{1,40})&')
_PERPETUAL = re.compile(r"(?P<base>[A-Z0-9]{1,30})(?P<quote>USDT|PERP)")
_FUTURE = re.compile(
    rf"(?P<base>[A-Z0-9]{{1,30}}?)(?P<quote>USDT)?-(?P<day>[0-9]{{2}})(?P<month>{'|'.join(MONTHS)})(?P<year>[0-9]{{2}})"
)


def _read(venue_id: str) -> Contract | None:
    if match := _PERPETUAL.fullmatch(venue_id):
        return Contract(match["base"], "USDT" if match["quote"] == "USDT" else "USDC")
    if match := _FUTURE.fullmatch(venue_id):
        expiry = f"20{match['year']}{MONTHS.index(match['month']) + 1:02}{match['day']}"
        return Contract(match["base"], match["quote"] or "USDC", expiry)
    return None


def _write(contract: Contract) -> str:
    base, quote, expiry = contract
    if not expiry:
        return f"{base}{'USDT' if quote == 'USDT' else 'PERP'}"
    return f"{base}{'USDT' if quote == 'USDT' else ''}-{expiry[6:]}{MONTHS[int(expiry[4:6]) - 1]}{expiry[2:4]}"


def _trades(m: Trades, symbol: str) -> Sequence[TradeTick]:
    """{"topic":..,"type":"snapshot","ts":..,"data":[{"T":1767625200051,"S":"Sell","v":"0.001","p":"93745.20","L":"MinusTick","i":"35319862-77a2-5ebe-851b-3836573c4fe9",..}]}"""
    if m.data and not m.is_of_derivative:
        raise FrameError(SPOT)
    return trades(m, symbol)


class BybitLinear(Bybit):
    name = "bybit_linear"
    default_url = "wss://stream.bybit.com/v5/public/linear"
    sandbox_url = "wss://stream-testnet.bybit.com/v5/public/linear"
    symbols = contracts(
        "a contract like BTCUSDT-PERP or BTCUSDT-20261225, or the venue's own form, like BTCUSDT-25DEC26",
        QUOTES,
        _write,
        _read,
    )
    default_symbols = ("BTCUSDT-PERP", "ETHUSDT-PERP")
    channels = (Channel("publicTrade", TRADE, Trades, _trades), *Bybit.channels[1:])
    heads = (_TOPIC, _REST)
