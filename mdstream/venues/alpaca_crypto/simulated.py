"""Alpaca's crypto feed as the simulator serves it.

Channels: trades, quotes, orderbooks (a whole book, then changes). bars and the other ones are acknowledged and stay
silent, as are symbols that there are not.
Source: docs.alpaca.markets, real-time crypto data (read 2026-09). Our choices are those of the stocks
(mdstream/venues/alpaca/simulated.py); orderbooks change every 100 ms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from mdstream.simulator.exchange import Exchange
from mdstream.simulator.listing import US, Channel, Kind, Listing, book_now, top_now
from mdstream.simulator.market import Book, Levels, Order, Top
from mdstream.simulator.text import rfc3339
from mdstream.venues.alpaca.simulated import SILENT, AlpacaSession


def _trades(listing: Listing, order: Order) -> list[str]:
    time, side = rfc3339(order.ts_ns), "B" if order.buy else "S"
    return [
        f'[{{"T":"t","S":"{listing.symbol}","p":{listing.price(t.ticks)},"s":{listing.size(t.lots)},"t":"{time}",'
        f'"i":{t.trade_id},"tks":"{side}"}}]'
        for t in order.fills
    ]


def _quote(listing: Listing, top: Top) -> list[str]:
    price, size = listing.price, listing.size
    text = (
        f'[{{"T":"q","S":"{listing.symbol}","bp":{price(top.bid)},"bs":{size(top.bid_lots)},"ap":{price(top.ask)},'
        f'"as":{size(top.ask_lots)},"t":"{rfc3339(top.ts_ns)}"}}]'
    )
    return [text]


def _snapshot(listing: Listing, book: Book) -> list[str]:
    return [f'{_book(listing, book, book.bids, book.asks)},"r":true}}]']


def _update(listing: Listing, book: Book) -> list[str]:
    return [f"{_book(listing, book, book.bid_changes, book.ask_changes)}}}]"]


def _book(listing: Listing, book: Book, bids: Levels, asks: Levels) -> str:
    head = f'[{{"T":"o","S":"{listing.symbol}","t":"{rfc3339(book.ts_ns)}"'
    return f'{head},"b":[{_levels(listing, bids)}],"a":[{_levels(listing, asks)}]'


def _levels(listing: Listing, levels: Levels) -> str:
    return ",".join([f'{{"p":{listing.price(ticks)},"s":{listing.size(lots)}}}' for ticks, lots in levels])


CHANNELS = {
    "trades": Channel(Kind.TRADE, _trades, lambda order: order.fills, resolution_ns=US),
    "quotes": Channel(Kind.QUOTE, _quote, resolution_ns=US, first=top_now(_quote)),
    "orderbooks": Channel(Kind.BOOK, _update, first=book_now(_snapshot)),
}


class AlpacaCryptoSession(AlpacaSession):
    silent = SILENT
    followers: ClassVar[Sequence[str]] = ()


class AlpacaCrypto(Exchange):
    name = "alpaca_crypto"
    path = "/v1beta3/crypto/us"
    sessions = AlpacaCryptoSession
    fewest_decimals = 1
    channels: ClassVar[Mapping[str, Channel]] = CHANNELS
    separator = "/"
