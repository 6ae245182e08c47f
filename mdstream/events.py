"""The public events: one JSON object per Kafka record, UTF-8, key = `symbol`.

Fields are added, never renamed. Prices and sizes are float64; times are integer nanoseconds since 1970, UTC.
A field the venue does not give is null; a field with a default here is omitted while it has that default.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Side = Literal["buy", "sell"]
Correction = Literal["cancel", "correct"]
Level = tuple[float, float]


class Trade(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="trade"):
    """A trade as one venue reported it.

    `price` is quote per base, `size` in base units, `side` the aggressor's. `ts_exchange` is the venue's time and
    `ts_recv` the ingestor's. `seq` numbers this symbol's trades without gaps. `count` is the number of fills in an
    aggregate; `recovered` marks a trade that came over REST, by repair or backfill; `backfilled` one of these from
    before the first that the platform had of the symbol and provider: it is history, and in no bar.

    With `correction` it is no other trade: it changes the provider's trade with the id `corrects`. Then `price` and
    `size` are what is in its place, a size of 0 for a cancel, and `corrects_price` and `corrects_size` what the venue
    says it was.
    """

    symbol: str
    seq: int
    provider: str
    trade_id: str
    price: float
    size: float
    side: Side | None
    ts_exchange: int | None
    ts_recv: int
    count: int = 1
    recovered: bool = False
    venue: str | None = None
    conditions: tuple[str, ...] | None = None
    correction: Correction | None = None
    corrects: str | None = None
    corrects_price: float | None = None
    corrects_size: float | None = None
    backfilled: bool = False


class Quote(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type", tag="quote"):
    """The top of the book. Price and size of an empty side are null."""

    symbol: str
    seq: int
    provider: str
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    ts_exchange: int | None
    ts_recv: int
    venue: str | None = None


class BookL2(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="book"):
    """The book's best levels, at most twenty a side: (price, size), best first."""

    symbol: str
    seq: int
    provider: str
    bids: list[Level]
    asks: list[Level]
    ts_exchange: int | None
    ts_recv: int
    venue: str | None = None


class Bar(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="bar"):
    """Open, high, low, close and volume of the half-open interval [ts_open, ts_open + interval).

    `volume` is in base units, `quote_volume` in quote units; `revision` starts at 0 and rises with each re-publication.

    With `backfilled` it is the bar of a venue, `provider`, from before the platform's first trade of the symbol. Its
    revision is HISTORY: where the first trades came within the interval, it stands in place of the bar of these.
    """

    symbol: str
    interval: str
    ts_open: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float | None
    trades: int | None
    revision: int
    provider: str | None = None
    backfilled: bool = False


HISTORY = 1_000_000_000
"""The revision of a bar of history: above those of any bar made of trades, which rise about once a second for days."""


class Heartbeat(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="heartbeat"):
    """A heartbeat: the feed is up, without data; `symbol` is "__system__" for a whole provider.

    `state`: closed, while the instrument's market is; halted, while it is itself.
    """

    symbol: str
    provider: str
    silent_since: int | None
    ts_recv: int
    state: Literal["closed", "halted"] | None = None


class FeedStatus(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="status"):
    """What happened to a feed.

    `state`: connected, disconnected or gave_up, of a provider's connection (`symbol` is "__system__"); switched, when
    the instrument follows `provider` instead of `previous`; seq_reset, when the venue restarted the instrument's trade
    ids; book_lost, when its book is unknown until the next one; halted and resumed, when a stock exchange halts trading
    in the instrument; seq_jump, when the platform itself (`provider` is
    "mdstream") lost its state; log_reset, when a raw topic was recreated or lost its end. `reason` is for people.
    """

    symbol: str
    provider: str
    state: str
    reason: str | None
    ts_recv: int
    previous: str | None = None


class Gap(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="gap"):
    """Trades first_id..last_id (both included) of one provider that did not arrive in time.

    `state`: open; closed, when all of them arrived after all, by repair or late; lost, when `missing` of them can no
    longer be obtained, for the given `reason`. `took_ns` is the time from open to closed or lost.
    """

    symbol: str
    provider: str
    first_id: str
    last_id: str
    state: Literal["open", "closed", "lost"]
    ts_recv: int
    missing: int
    took_ns: int | None = None
    reason: str | None = None


class ListedInstrument(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type", tag="instrument"):
    """An instrument as one venue lists it; `venue_symbol` is the venue's name for it.

    `tick_size` and `lot_size` are exact decimals, null where the venue gives none; `lot_size` is in the unit of the
    venue's sizes, which is worth `contract_size` of `contract_currency`. `volume_24h` is in quote currency.
    """

    symbol: str
    provider: str
    venue_symbol: str
    kind: str
    base: str
    quote: str
    tick_size: str | None
    lot_size: str | None
    contract_size: str
    contract_currency: str
    status: Literal["trading", "not_trading"]
    ts_recv: int
    volume_24h: float | None = None


Event = Trade | Quote | BookL2 | Bar | Heartbeat | FeedStatus | Gap | ListedInstrument

SYSTEM = "__system__"

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)

encode = _encoder.encode
"""One event as bytes, as on the topic."""


def decode(value: bytes) -> Event:
    """The event in a canonical record's value.

    Raises msgspec.MsgspecError, UnicodeDecodeError or RecursionError for anything else.
    """
    return _decoder.decode(value)


def schema() -> dict[str, Any]:
    """JSON Schema of every event, for consumers in other languages."""
    (any_event,), definitions = msgspec.json.schema_components([Event], ref_template="#/$defs/{name}")
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, "title": "mdstream events", **any_event, "$defs": definitions}
