"""Binance USD-M futures as the simulator serves them: at /public trade, bookTicker, depth5|10|20, at /market aggTrade.

A stream of the other address, or any other, is acknowledged and stays silent. Without either, the address is /public.
Source: developers.binance.com, derivatives, usds-margined-futures, websocket-market-streams (read 2026-11). Our choices
where it is silent: those of spot; 200 streams a connection (one edition of the page has 1,024); every trade is in the
market (`X`), and comes in an aggregate of its own order alone, at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mdstream.simulator.listing import MS, Channel, Kind, Listing
from mdstream.simulator.market import SECOND_NS, Book, Instrument, Order, Top
from mdstream.simulator.text import Writer, fixed
from mdstream.venues.binance.simulated import Binance, BinanceSession, entry
from mdstream.venues.binance_usdm import feed


def _trade(listing: Listing, order: Order) -> list[str]:
    ms, maker_buys = order.ts_ns // MS, "false" if order.buy else "true"
    return [
        f'{{"e":"trade","E":{ms},"T":{ms},"s":"{listing.symbol}","t":{t.trade_id},"p":"{listing.price(t.ticks)}",'
        f'"q":"{listing.size(t.lots)}","X":"MARKET","m":{maker_buys}}}'
        for t in order.fills
    ]


def _agg_trade(listing: Listing, order: Order) -> list[str]:
    ms, maker_buys = order.ts_ns // MS, "false" if order.buy else "true"
    return [
        f'{{"e":"aggTrade","E":{ms},"a":{t.trade_id},"s":"{listing.symbol}","p":"{listing.price(t.ticks)}",'
        f'"q":"{listing.size(t.lots)}","f":{t.first_id},"l":{t.last_id},"T":{ms},"m":{maker_buys}}}'
        for t in order.aggregates
    ]


def _book_ticker(listing: Listing, top: Top) -> list[str]:
    ms, price, size = top.ts_ns // MS, listing.price, listing.size
    text = (
        f'{{"e":"bookTicker","u":{top.update_id},"s":"{listing.symbol}",{_pair(listing)}"b":"{price(top.bid)}",'
        f'"B":"{size(top.bid_lots)}","a":"{price(top.ask)}","A":"{size(top.ask_lots)}","T":{ms},"E":{ms}}}'
    )
    return [text]


def _depth(levels: int, every: int) -> Channel:
    def encode(listing: Listing, book: Book) -> list[str]:
        ms, (bids, asks) = book.ts_ns // MS, (listing.levels(side[:levels]) for side in (book.bids, book.asks))
        text = (
            f'{{"e":"depthUpdate","E":{ms},"T":{ms},"s":"{listing.symbol}",{_pair(listing)}"U":{book.previous_id + 1},'
            f'"u":{book.update_id},"pu":{book.previous_id},"b":[{bids}],"a":[{asks}]}}'
        )
        return [text]

    return Channel(Kind.BOOK, encode, every=every)


def _pair(listing: Listing) -> str:
    """COIN-M names the pair, too."""
    return f'"ps":"{listing.symbol.partition("_")[0]}",' if listing.exchange == "binance_coinm" else ""


MARKET = {"aggTrade": Channel(Kind.TRADE, _agg_trade, lambda order: order.aggregates, "aggTrade", resolution_ns=MS)}
PUBLIC = {
    "trade": Channel(Kind.TRADE, _trade, lambda order: order.fills, resolution_ns=MS),
    "bookTicker": Channel(Kind.QUOTE, _book_ticker),
} | {
    f"depth{levels}{speed}": _depth(levels, every)
    for levels in (5, 10, 20)
    for speed, every in (("", 2), ("@500ms", 5), ("@100ms", 1))
}
AT_PUBLIC, AT_MARKET = entry(PUBLIC), entry(MARKET)


class BinanceUsdmSession(BinanceSession):
    request_limit = (10, 1.0)
    max_streams = 200
    ping_interval_ns = 180 * SECOND_NS
    pong_timeout_ns = 600 * SECOND_NS


class BinanceUsdm(Binance):
    name = "binance_usdm"
    path = "/public/stream"
    sessions = BinanceUsdmSession
    entries: ClassVar = {"": AT_PUBLIC, "/public": AT_PUBLIC, "/market": AT_MARKET}
    fewest_decimals = 1
    channels: ClassVar[Mapping[str, Channel]] = {**AT_PUBLIC.combined, **AT_MARKET.combined}
    quotes: ClassVar[Sequence[str]] = feed.QUOTES
    contracts = feed.BinanceUsdm.symbols
    endings = ("-PERP",)
    shutdown_notice = ""

    def writers(self, instrument: Instrument) -> tuple[Writer, Writer]:
        price, size = instrument.price_decimals, instrument.size_decimals
        return fixed(price, price), fixed(size, size)
