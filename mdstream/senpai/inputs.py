"""The events of md.events.> as far as the engine needs them, and what it refuses. Pure.

The fields are those of mdstream.events; reading a part of them is faster. Limits keep every sum finite and exact.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from mdstream.events import SYSTEM
from mdstream.instruments import is_cash
from mdstream.records import LAST_NS

AHEAD_NS = OLD_NS = 60 * 1_000_000_000
"""An event may be this far ahead of the clock that judges it, and this far behind: its window is 60 s."""
TINY = 1e-30
"""Smaller amounts, other than 0, are no market's, and could not be summed exactly."""

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Price = Annotated[float, msgspec.Meta(gt=-1e30, lt=1e30)]
Size = Annotated[float, msgspec.Meta(ge=0, lt=1e30)]
Time = Annotated[int, msgspec.Meta(ge=0, lt=LAST_NS)]
Seq = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]


class Trade(msgspec.Struct, gc=False, tag_field="type", tag="trade"):
    """A trade."""

    symbol: Symbol
    seq: Seq
    provider: Symbol
    price: Price
    size: Size
    ts_exchange: Time | None
    ts_recv: Time
    count: Count = 1
    recovered: bool = False

    @property
    def at(self) -> int:
        """Event time: the venue's, ours where it gives none or one ahead of ours."""
        return self.ts_recv if self.ts_exchange is None else min(self.ts_exchange, self.ts_recv)


class Quote(msgspec.Struct, gc=False, tag_field="type", tag="quote"):
    """The top of the book."""

    symbol: Symbol
    seq: Seq
    provider: Symbol
    bid: Price | None
    bid_size: Size | None
    ask: Price | None
    ask_size: Size | None
    ts_exchange: Time | None
    ts_recv: Time

    @property
    def at(self) -> int:
        """Event time, as of a trade."""
        return self.ts_recv if self.ts_exchange is None else min(self.ts_exchange, self.ts_recv)


class Status(msgspec.Struct, gc=False, tag_field="type", tag="status"):
    """What happened to a feed."""

    symbol: Symbol
    provider: Symbol
    state: str
    ts_recv: Time
    previous: str | None = None


class Gap(msgspec.Struct, gc=False, tag_field="type", tag="gap"):
    """Trades that are missing at the venue's feed."""

    symbol: Symbol
    provider: Symbol
    first_id: Symbol
    last_id: Symbol
    state: Literal["open", "closed", "lost"]
    ts_recv: Time


class Heartbeat(msgspec.Struct, gc=False, tag_field="type", tag="heartbeat"):
    """A sign of life; it only tells the time."""

    symbol: Symbol
    ts_recv: Time


class Ignored(msgspec.Struct, gc=False, tag_field="type", tag="book"):
    """Books and bars are of no use here."""


class IgnoredBar(msgspec.Struct, gc=False, tag_field="type", tag="bar"):
    """See Ignored."""


class IgnoredInstrument(msgspec.Struct, gc=False, tag_field="type", tag="instrument"):
    """See Ignored."""


class Typed(msgspec.Struct, gc=False):
    """The type alone, where the rest cannot be read."""

    type: str


Event = Trade | Quote | Status | Gap | Heartbeat | Ignored | IgnoredBar | IgnoredInstrument
TYPES = frozenset({"trade", "quote", "status", "gap", "heartbeat", "book", "bar", "instrument"})

decode = msgspec.json.Decoder(Event).decode
_decode_type = msgspec.json.Decoder(Typed).decode

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def why_unreadable(value: bytes) -> str:
    """`unknown` for an object of a type that is none of ours, else `malformed`."""
    try:
        return "malformed" if _decode_type(value).type in TYPES else "unknown"
    except UNREADABLE:
        return "malformed"


def why_refused(event: Trade | Quote, now_ns: int | None) -> str | None:
    """What is wrong with a trade or a quote: future, old or price; None: nothing."""
    ours, theirs = event.ts_recv, event.ts_exchange
    if (now_ns is not None and ours > now_ns + AHEAD_NS) or (theirs is not None and theirs > ours + AHEAD_NS):
        return "future"
    if theirs is not None and theirs <= ours - OLD_NS:
        return "old"
    if type(event) is Trade:
        return "price" if _is_bad(event.symbol, event.price) or 0 < event.size < TINY else None
    assert type(event) is Quote
    prices = (event.bid, event.ask)
    return "price" if any(price is not None and _is_bad(event.symbol, price) for price in prices) else None


def _is_bad(symbol: str, price: float) -> bool:
    """Zero or below for a pair or a share, or too small a fraction."""
    return price < TINY and ((price != 0 and abs(price) < TINY) or is_cash(symbol))


__all__ = ["SYSTEM", "Event", "Gap", "Heartbeat", "Quote", "Status", "Trade", "decode"]
