"""What an event is called on NATS: its subject and its message id. Pure.

    trade of BTCUSDT  ──> md.events.trade.BTCUSDT      id trade.BTCUSDT.1767625200125401
    quote of BRK.B    ──> md.events.quote.BRK%2EB      id quote.BRK%2EB.1767625200125402
    bar of BTCUSDT    ──> md.events.bar.BTCUSDT        id bar.BTCUSDT.1m.1767625200000000000.0
    heartbeat         ──> md.events.heartbeat.__system__

A symbol is one token of a subject. Tokens hold no dot (it separates them), no wildcard (`*`, `>`) and no blank; those,
`%` itself, control characters and everything beyond ASCII are written as %XX, a byte of UTF-8 each. Every other
character stays, so ordinary symbols stay as they are, and `decode_token` gives each symbol back.
Source: https://docs.nats.io/nats-concepts/subjects (read 2026-11).
"""

from __future__ import annotations

import re
from hashlib import blake2b

from mdstream.events import Bar, BookL2, Event, FeedStatus, Gap, Heartbeat, Quote, Trade

NUMBERED = (Trade, Quote, BookL2)
"""Events whose `seq` tells a repeat from a loss. The others are told by their identity."""
Unnumbered = Bar | FeedStatus | Gap | Heartbeat

TYPES: dict[type[Event], str] = {
    Trade: "trade",
    Quote: "quote",
    BookL2: "book",
    Bar: "bar",
    FeedStatus: "status",
    Gap: "gap",
    Heartbeat: "heartbeat",
}

EMPTY = "%"
"""The token of the empty text: no other text gives it, as a `%` is always followed by two digits."""

_UNSAFE = re.compile(r"[^!-~]|[.*>%]")
_ESCAPED = re.compile(rb"%([0-9A-F]{2})")


def encode_token(text: str) -> str:
    """`text` as one token of a subject."""
    return _UNSAFE.sub(_escape, text) or EMPTY


def _escape(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def decode_token(token: str) -> str:
    """The text that `encode_token` made the token of."""
    if token == EMPTY:
        return ""
    plain = _ESCAPED.sub(lambda match: bytes.fromhex(match[1].decode()), token.encode())
    return plain.decode("utf-8", "surrogatepass")


def tail_of(kind: type[Event], symbol: str) -> str:
    """What follows the prefix in the subject of such events: `trade.BTCUSDT`."""
    return f"{TYPES[kind]}.{encode_token(symbol)}"


def identity_of(event: Unnumbered, value: bytes) -> str:
    """What tells this event from every other one of its subject. `value` is its record's: status events have no
    number and are the same where all their fields are."""
    if isinstance(event, Bar):
        return f"{encode_token(event.interval)}.{event.ts_open}.{event.revision}"
    return f"{encode_token(event.provider)}.{event.ts_recv}.{blake2b(value, digest_size=8).hexdigest()}"
