"""An event's subject and message id on NATS. Pure.

    trade of BTCUSDT  ──> md.events.trade.BTCUSDT      id trade.BTCUSDT.1767625200125401
    quote of BRK.B    ──> md.events.quote.BRK%2EB      id quote.BRK%2EB.1767625200125402
    bar of BTCUSDT    ──> md.events.bar.BTCUSDT        id bar.BTCUSDT.1m.1767625200000000000.0
    heartbeat         ──> md.events.heartbeat.__system__

A symbol is one token of a subject. Tokens hold no dot (it separates them), no wildcard (`*`, `>`) and no blank; those,
`%` itself, control characters and everything beyond ASCII are written as %XX, a byte of UTF-8 each. Every other
character stays, so ordinary symbols are unchanged, and `decode_token` restores each symbol.
Source: https://docs.nats.io/nats-concepts/subjects (read 2026-11).
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import get_args

import msgspec

from mdstream.events import Bar, FeedStatus, Gap, Heartbeat


class Head(msgspec.Struct, frozen=True, gc=False):
    """The fields needed of an event that has a `seq`: reading all of it takes three times as long."""

    symbol: str
    seq: int


class TradeHead(Head, frozen=True, gc=False, tag_field="type", tag="trade"): ...


class QuoteHead(Head, frozen=True, gc=False, tag_field="type", tag="quote"): ...


class BookHead(Head, frozen=True, gc=False, tag_field="type", tag="book"): ...


Unnumbered = Bar | FeedStatus | Gap | Heartbeat
"""Events without a `seq`: a repeat is recognized by its identity instead."""
UNNUMBERED: frozenset[type] = frozenset(get_args(Unnumbered))
Named = TradeHead | QuoteHead | BookHead | Unnumbered

_decoder: msgspec.json.Decoder[Named] = msgspec.json.Decoder(Named)


def named(value: bytes) -> Named:
    """The event in a record's value; one with a `seq` is decoded no further than its head. Raises msgspec.MsgspecError
    if it is not an event."""
    return _decoder.decode(value)


EMPTY = "%"
"""The token of the empty text: no other text encodes to it, as a `%` is always followed by two digits."""

_UNSAFE = re.compile(r"[^!-~]|[.*>%]")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


def encode_token(text: str) -> str:
    """`text` as one token of a subject."""
    return _UNSAFE.sub(_escape, text) or EMPTY


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def decode_token(token: str) -> str:
    """The text that `encode_token` encoded."""
    if token == EMPTY:
        return ""
    plain = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), token.encode())
    return plain.decode("utf-8", "surrogatepass")


def tail_of(kind: type[msgspec.Struct], symbol: str) -> str:
    """What follows the prefix in the subject of events of a kind, heads or whole: `trade.BTCUSDT`."""
    return f"{kind.__struct_config__.tag}.{encode_token(symbol)}"


def identity_of(event: Unnumbered, value: bytes) -> str:
    """What distinguishes this event from every other one of its subject. `value` is its record's: status events have
    no number and are the same if all their fields are."""
    if isinstance(event, Bar):
        return f"{encode_token(event.interval)}.{event.ts_open}.{event.revision}"
    return f"{encode_token(event.provider)}.{event.ts_recv}.{blake2b(value, digest_size=8).hexdigest()}"
