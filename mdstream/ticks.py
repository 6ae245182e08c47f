"""Ticks: what every provider's parser returns for a frame, before deduplication and numbering.

A leaf like mdstream.events: values only. Prices and sizes are finite float64, times integer nanoseconds UTC.
"""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Literal, NamedTuple, final

import msgspec

from mdstream.errors import FrameError
from mdstream.events import Correction, Level, Side

NO_ID = -1

BOOK_DEPTH = 20
"""Most levels per side in a BookL2."""

PRICE_DECIMALS = 10
PRICE_UNIT = 10**PRICE_DECIMALS
"""A price that identifies a level is an integer number of 1 / PRICE_UNIT; one with more decimals is refused."""


@final
class TradeTick(msgspec.Struct, gc=False):
    """One trade. It covers the integer ids `first_id`..`last_id` (both included); NO_ID where ids are opaque.

    `id_space` is set where the venue has several for the same executions (Binance: trade, aggTrade);
    `count` is the number of fills in an aggregate. `resume` marks a venue's answer to a subscription: the last trade
    before it. To a reader that has seen an earlier id it shows what was missed; otherwise it is history, not news.
    `recovered` marks a trade from a REST answer: it only ever fills a hole. `venue` and `conditions` are the exchange
    and the codes of sale conditions of a consolidated feed, as it writes them.

    `correction` and the fields behind it as in events.Trade; the id of a correction is opaque, and its own.
    """

    symbol: str
    trade_id: str
    price: float
    size: float
    side: Side | None
    ts_exchange: int | None
    first_id: int = NO_ID
    last_id: int = NO_ID
    count: int = 1
    id_space: str = ""
    resume: bool = False
    recovered: bool = False
    venue: str | None = None
    conditions: tuple[str, ...] | None = None
    correction: Correction | None = None
    corrects: str | None = None
    corrects_price: float | None = None
    corrects_size: float | None = None


class QuoteTick(msgspec.Struct, gc=False):
    """The top of the book; `update_id` rises with every change, NO_ID if the venue gives none."""

    symbol: str
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    ts_exchange: int | None
    update_id: int = NO_ID


class BookTick(msgspec.Struct, gc=False):
    """A whole book, best first, at most BOOK_DEPTH levels per side; `update_id` as in QuoteTick."""

    symbol: str
    bids: list[Level]
    asks: list[Level]
    ts_exchange: int | None
    update_id: int = NO_ID


PriceLevel = tuple[int, float]
"""Exact price in units of 10**-PRICE_DECIMALS, and size; size 0 removes the level."""


class BookCheck(NamedTuple):
    """What a venue's book is after an update: `depth` levels per side, and `crc32` of its ten best.

    That is over asks, then bids, best first, each as the digits of its price and its size with so many decimals,
    without point and leading zeros.
    """

    depth: int
    crc32: int
    price_decimals: int
    size_decimals: int


class BookUpdate(msgspec.Struct, gc=False):
    """Changed levels with their new sizes, in the frame's order; if `whole`, all levels of both sides."""

    symbol: str
    bids: list[PriceLevel]
    asks: list[PriceLevel]
    ts_exchange: int | None
    whole: bool = False
    check: BookCheck | None = None
    """None where the venue gives no checksum."""
    update_id: int = NO_ID
    previous_id: int | None = None
    """The id of the update before this one; None where the venue numbers none."""


class HaltTick(msgspec.Struct, gc=False):
    """A stock exchange halts trading in an instrument, or resumes it."""

    symbol: str
    halted: bool
    reason: str
    ts_exchange: int


@final
class BarTick(msgspec.Struct, gc=False):
    """A venue's own bar of the closed interval [ts_open, ts_open + interval), from a REST answer.

    `interval` is named as in events.Bar. `volume` is in base units, `quote_volume` in quote units; None where the venue
    does not say. An interval without trades has no bar, also where the venue gives one.
    """

    symbol: str
    interval: str
    ts_open: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None = None
    trades: int | None = None


class Control(msgspec.Struct, frozen=True):
    """A frame that is not market data. Kind `error` is logged and counted; `ignored` is data we do not use (yet);
    `shutdown` announces the end of the connection.

    `names`: the subscriptions or requests that an ack or error answers, as in mdstream.venues.feed.Request.
    """

    kind: Literal["ack", "error", "pong", "heartbeat", "notice", "shutdown", "ignored"]
    detail: str = ""
    names: tuple[str, ...] = ()


OtherTick = QuoteTick | BookTick | BookUpdate | HaltTick | BarTick | Control
Tick = TradeTick | OtherTick

Number = Annotated[float, msgspec.Meta(gt=-1e140, lt=1e140)]
"""A finite number, also if the venue writes it as text (decoders run with strict=False).

The limits exclude the texts "nan" and "inf", which a lax decoder accepts as numbers; within them every sum and product
stays finite.
"""

Size = Annotated[float, msgspec.Meta(ge=0, lt=1e140)]
"""A Number that is not negative."""
LevelSize = Annotated[float, msgspec.Meta(ge=0, lt=1e300)]
"""The size of a level, 0 for a removed one; read as Number."""


def number(text: str) -> float | None:
    """The finite number in `text`; None if it is empty.

    Raises FrameError for anything else, infinities and not-a-number included.
    """
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise FrameError(f"not a number: {text[:40]!r}") from None
    if not isfinite(value):
        raise FrameError(f"not a finite number: {text[:40]!r}")
    return value


MAX_WHOLE_DIGITS = 20
"""Order books hold absurd prices, such as 888888004.0000 for a coin."""
_ZEROS = ["0" * (PRICE_DECIMALS - digits) for digits in range(PRICE_DECIMALS + 1)]


def price_units(text: str) -> int:
    """A price as the venue writes it, "93741.10", in 1 / PRICE_UNIT. It may not fit 64 bits.

    Raises FrameError for anything but a plain decimal number of at most 20 digits before the point and 10 after it.
    """
    whole, point, fraction = text.partition(".")
    if (
        not (text.isascii() and whole.isdigit() and (fraction.isdigit() or not point))
        or len(whole) > MAX_WHOLE_DIGITS
        or len(fraction) > PRICE_DECIMALS
    ):
        raise FrameError(
            f"not a price of at most {MAX_WHOLE_DIGITS} digits and {PRICE_DECIMALS} decimals: {text[:40]!r}"
        )
    return int(whole + fraction + _ZEROS[len(fraction)])
